//! Types, attributes and locations: plain data ⇄ MLIR's.

#![allow(unsafe_code)]

use super::{str_ref, to_string};
use crate::origin::Origin;
use crate::tile::{BufType, Space};
use crate::types::{DType, TensorType};
use bytes::Bytes;
use mlir_sys::*;

unsafe extern "C" {
    fn kilnBufTypeGet(
        ctx: MlirContext,
        rank: isize,
        shape: *const i64,
        element: MlirType,
        space: u32,
        part: i64,
    ) -> MlirType;
    fn kilnTypeIsABuf(ty: MlirType) -> bool;
    fn kilnBufTypeGetRank(ty: MlirType) -> isize;
    fn kilnBufTypeGetDim(ty: MlirType, axis: isize) -> i64;
    fn kilnBufTypeGetElement(ty: MlirType) -> MlirType;
    fn kilnBufTypeGetSpace(ty: MlirType) -> u32;
    fn kilnBufTypeGetPart(ty: MlirType) -> i64;
}

/// A type as plain data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    Tensor(TensorType),
    Buf(BufType),
    Index,
}

/// An attribute as plain data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attr {
    Unit,
    I32(i64),
    I64(i64),
    F64(f64),
    Dims(Vec<i64>),
    Floats(Vec<f64>),
    Text(String),
    Symbol(String),
    Element(DType),
    TensorType(TensorType),
    List(Vec<Attr>),
    Dict(Vec<(String, Attr)>),
    Dense(TensorType, Bytes),
}

pub(crate) type NamedAttr = (&'static str, Attr);

fn element_type(ctx: MlirContext, dtype: DType) -> MlirType {
    // SAFETY: `ctx` is alive for the call; types live as long as their context.
    unsafe {
        match dtype {
            DType::F32 => mlirF32TypeGet(ctx),
            DType::F16 => mlirF16TypeGet(ctx),
            DType::BF16 => mlirBF16TypeGet(ctx),
            DType::F64 => mlirF64TypeGet(ctx),
            DType::F8E4M3 => mlirFloat8E4M3FNTypeGet(ctx),
            DType::F8E5M2 => mlirFloat8E5M2TypeGet(ctx),
            DType::Bool => mlirIntegerTypeGet(ctx, 1),
            DType::I8 => mlirIntegerTypeGet(ctx, 8),
            DType::I16 => mlirIntegerTypeGet(ctx, 16),
            DType::I32 => mlirIntegerTypeGet(ctx, 32),
            DType::I64 => mlirIntegerTypeGet(ctx, 64),
            DType::U8 => mlirIntegerTypeUnsignedGet(ctx, 8),
            DType::U16 => mlirIntegerTypeUnsignedGet(ctx, 16),
            DType::U32 => mlirIntegerTypeUnsignedGet(ctx, 32),
            DType::U64 => mlirIntegerTypeUnsignedGet(ctx, 64),
        }
    }
}

fn element_of(ty: MlirType) -> Option<DType> {
    // SAFETY: `ty` is a type of a live context.
    unsafe {
        if mlirTypeIsAInteger(ty) {
            let unsigned = mlirIntegerTypeIsUnsigned(ty);
            return Some(match (mlirIntegerTypeGetWidth(ty), unsigned) {
                (1, false) => DType::Bool,
                (8, false) => DType::I8,
                (16, false) => DType::I16,
                (32, false) => DType::I32,
                (64, false) => DType::I64,
                (8, true) => DType::U8,
                (16, true) => DType::U16,
                (32, true) => DType::U32,
                (64, true) => DType::U64,
                _ => return None,
            });
        }
        let tests: [(unsafe extern "C" fn(MlirType) -> bool, DType); 6] = [
            (mlirTypeIsAF32, DType::F32),
            (mlirTypeIsAF16, DType::F16),
            (mlirTypeIsABF16, DType::BF16),
            (mlirTypeIsAF64, DType::F64),
            (mlirTypeIsAFloat8E4M3FN, DType::F8E4M3),
            (mlirTypeIsAFloat8E5M2, DType::F8E5M2),
        ];
        tests.iter().find(|(is, _)| is(ty)).map(|(_, dtype)| *dtype)
    }
}

fn tensor_type(ctx: MlirContext, ty: &TensorType) -> MlirType {
    let shape: Vec<i64> = ty.shape.iter().map(|&d| d as i64).collect();
    // SAFETY: the shape outlives the call; every element type above is legal in a tensor.
    unsafe {
        mlirRankedTensorTypeGet(
            shape.len() as isize,
            shape.as_ptr(),
            element_type(ctx, ty.dtype),
            mlirAttributeGetNull(),
        )
    }
}

/// None for a type that breaks a rule of `!tile.buf`; the reason is in the context's diagnostics.
fn buf_type(ctx: MlirContext, ty: &BufType) -> Option<MlirType> {
    let shape: Vec<i64> = ty.shape.iter().map(|&d| d as i64).collect();
    // SAFETY: the shape outlives the call.
    let raw = unsafe {
        kilnBufTypeGet(
            ctx,
            shape.len() as isize,
            shape.as_ptr(),
            element_type(ctx, ty.dtype),
            ty.space as u32,
            ty.part as i64,
        )
    };
    (!raw.ptr.is_null()).then_some(raw)
}

fn read_buf_type(ty: MlirType) -> Option<BufType> {
    // SAFETY: `ty` is a `!tile.buf` (the caller checked).
    unsafe {
        let dtype = element_of(kilnBufTypeGetElement(ty))?;
        let shape = (0..kilnBufTypeGetRank(ty)).map(|a| kilnBufTypeGetDim(ty, a) as usize).collect();
        let space = Space::from_index(i64::from(kilnBufTypeGetSpace(ty)))?;
        Some(BufType { dtype, shape, space, part: kilnBufTypeGetPart(ty) as usize })
    }
}

fn type_of(ctx: MlirContext, ty: &Ty) -> Option<MlirType> {
    Some(match ty {
        Ty::Tensor(t) => tensor_type(ctx, t),
        Ty::Buf(t) => buf_type(ctx, t)?,
        // SAFETY: `ctx` is alive.
        Ty::Index => unsafe { mlirIndexTypeGet(ctx) },
    })
}

pub(super) fn types_of(ctx: MlirContext, types: &[Ty]) -> Option<Vec<MlirType>> {
    types.iter().map(|t| type_of(ctx, t)).collect()
}

pub(super) fn read_type(ty: MlirType) -> Option<Ty> {
    // SAFETY: `ty` is a type of a live context; each accessor is called on the kind of type it is for.
    unsafe {
        if mlirTypeIsARankedTensor(ty) {
            let dtype = element_of(mlirShapedTypeGetElementType(ty))?;
            let shape = (0..mlirShapedTypeGetRank(ty) as isize)
                .map(|d| usize::try_from(mlirShapedTypeGetDimSize(ty, d)).ok())
                .collect::<Option<Vec<_>>>()?;
            return Some(Ty::Tensor(TensorType { dtype, shape }));
        }
        if kilnTypeIsABuf(ty) {
            return read_buf_type(ty).map(Ty::Buf);
        }
        mlirTypeIsAIndex(ty).then_some(Ty::Index)
    }
}

pub(super) fn identifier(ctx: MlirContext, name: &str) -> MlirIdentifier {
    // SAFETY: `ctx` is alive and copies the name.
    unsafe { mlirIdentifierGet(ctx, str_ref(name)) }
}

pub(super) fn attribute(ctx: MlirContext, attr: &Attr) -> MlirAttribute {
    // SAFETY: `ctx` is alive; MLIR copies all data passed by pointer.
    unsafe {
        match attr {
            Attr::Unit => mlirUnitAttrGet(ctx),
            Attr::I32(v) => mlirIntegerAttrGet(mlirIntegerTypeGet(ctx, 32), *v),
            Attr::I64(v) => mlirIntegerAttrGet(mlirIntegerTypeGet(ctx, 64), *v),
            Attr::F64(v) => mlirFloatAttrDoubleGet(ctx, mlirF64TypeGet(ctx), *v),
            Attr::Dims(v) => mlirDenseI64ArrayGet(ctx, v.len() as isize, v.as_ptr()),
            Attr::Floats(v) => mlirDenseF64ArrayGet(ctx, v.len() as isize, v.as_ptr()),
            Attr::Text(v) => mlirStringAttrGet(ctx, str_ref(v)),
            Attr::Symbol(v) => mlirFlatSymbolRefAttrGet(ctx, str_ref(v)),
            Attr::Element(dtype) => mlirTypeAttrGet(element_type(ctx, *dtype)),
            Attr::TensorType(ty) => mlirTypeAttrGet(tensor_type(ctx, ty)),
            Attr::List(items) => {
                let items: Vec<_> = items.iter().map(|a| attribute(ctx, a)).collect();
                mlirArrayAttrGet(ctx, items.len() as isize, items.as_ptr())
            }
            Attr::Dict(items) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|(name, a)| mlirNamedAttributeGet(identifier(ctx, name), attribute(ctx, a)))
                    .collect();
                mlirDictionaryAttrGet(ctx, items.len() as isize, items.as_ptr())
            }
            Attr::Dense(ty, bytes) => dense(ctx, ty, bytes),
        }
    }
}

fn dense(ctx: MlirContext, ty: &TensorType, bytes: &[u8]) -> MlirAttribute {
    assert_eq!(bytes.len(), ty.size_bytes(), "inference checked the bytes of {ty}");
    let shaped = tensor_type(ctx, ty);
    if ty.dtype == DType::Bool {
        let bits: Vec<i32> = bytes.iter().map(|&b| i32::from(b != 0)).collect();
        // SAFETY: as many elements as the type has; MLIR copies them.
        return unsafe { mlirDenseElementsAttrBoolGet(shaped, bits.len() as isize, bits.as_ptr()) };
    }
    // SAFETY: `bytes` is a dense array of the type (asserted above); MLIR copies it.
    unsafe { mlirDenseElementsAttrRawBufferGet(shaped, bytes.len(), bytes.as_ptr().cast()) }
}

fn read_dense(attr: MlirAttribute) -> Option<Attr> {
    // SAFETY: `attr` is a dense elements attribute (the caller checked); its data is `elements` (or one,
    // when it is a splat) values of the element type.
    unsafe {
        let Some(Ty::Tensor(ty)) = read_type(mlirAttributeGetType(attr)) else { return None };
        let n = ty.elements();
        if ty.dtype == DType::Bool {
            let bits = (0..n).map(|i| u8::from(mlirDenseElementsAttrGetBoolValue(attr, i as isize)));
            return Some(Attr::Dense(ty, bits.collect::<Vec<u8>>().into()));
        }
        if n == 0 {
            return Some(Attr::Dense(ty, Bytes::new()));
        }
        let size = ty.dtype.size_bytes();
        let stored = if mlirDenseElementsAttrIsSplat(attr) { 1 } else { n };
        let data = mlirDenseElementsAttrGetRawData(attr).cast::<u8>();
        let data = std::slice::from_raw_parts(data, stored * size);
        let bytes = if stored == n { Bytes::copy_from_slice(data) } else { data.repeat(n).into() };
        Some(Attr::Dense(ty, bytes))
    }
}

pub(super) fn read_attribute(attr: MlirAttribute) -> Option<Attr> {
    // SAFETY: `attr` belongs to a live context; each accessor is guarded by its kind test.
    unsafe {
        if attr.ptr.is_null() {
            return None;
        }
        Some(if mlirAttributeIsAUnit(attr) {
            Attr::Unit
        } else if mlirAttributeIsAInteger(attr) {
            let ty = mlirAttributeGetType(attr);
            if !mlirTypeIsAInteger(ty) {
                return None;
            }
            match mlirIntegerTypeGetWidth(ty) {
                32 => Attr::I32(mlirIntegerAttrGetValueInt(attr)),
                _ => Attr::I64(mlirIntegerAttrGetValueInt(attr)),
            }
        } else if mlirAttributeIsAFloat(attr) {
            Attr::F64(mlirFloatAttrGetValueDouble(attr))
        } else if mlirAttributeIsADenseI64Array(attr) {
            let n = mlirDenseArrayGetNumElements(attr);
            Attr::Dims((0..n).map(|i| mlirDenseI64ArrayGetElement(attr, i)).collect())
        } else if mlirAttributeIsADenseF64Array(attr) {
            let n = mlirDenseArrayGetNumElements(attr);
            Attr::Floats((0..n).map(|i| mlirDenseF64ArrayGetElement(attr, i)).collect())
        } else if mlirAttributeIsAString(attr) {
            Attr::Text(to_string(mlirStringAttrGetValue(attr)))
        } else if mlirAttributeIsAFlatSymbolRef(attr) {
            Attr::Symbol(to_string(mlirFlatSymbolRefAttrGetValue(attr)))
        } else if mlirAttributeIsAType(attr) {
            let ty = mlirTypeAttrGetValue(attr);
            match element_of(ty) {
                Some(dtype) => Attr::Element(dtype),
                None => match read_type(ty)? {
                    Ty::Tensor(ty) => Attr::TensorType(ty),
                    _ => return None,
                },
            }
        } else if mlirAttributeIsAArray(attr) {
            let n = mlirArrayAttrGetNumElements(attr);
            let items = (0..n).map(|i| read_attribute(mlirArrayAttrGetElement(attr, i)));
            Attr::List(items.collect::<Option<_>>()?)
        } else if mlirAttributeIsADictionary(attr) {
            let n = mlirDictionaryAttrGetNumElements(attr);
            let items = (0..n).map(|i| {
                let item = mlirDictionaryAttrGetElement(attr, i);
                Some((to_string(mlirIdentifierStr(item.name)), read_attribute(item.attribute)?))
            });
            Attr::Dict(items.collect::<Option<_>>()?)
        } else if mlirAttributeIsADenseElements(attr) {
            return read_dense(attr);
        } else {
            return None;
        })
    }
}

// ---- locations ---------------------------------------------------------------------------------

pub(super) fn location(ctx: MlirContext, origin: &Origin) -> MlirLocation {
    // SAFETY: `ctx` is alive; MLIR copies the names.
    unsafe {
        let unknown = mlirLocationUnknownGet(ctx);
        let names: Vec<_> = origin.names().map(|n| mlirLocationNameGet(ctx, str_ref(n), unknown)).collect();
        match names.as_slice() {
            [] => unknown,
            [one] => *one,
            many => mlirLocationFusedGet(ctx, many.len() as isize, many.as_ptr(), mlirAttributeGetNull()),
        }
    }
}

pub(super) fn collect_names(location: MlirLocation, names: &mut Vec<String>) {
    // SAFETY: `location` belongs to a live context; accessors are guarded by their kind tests.
    unsafe {
        if mlirLocationIsAName(location) {
            names.push(to_string(mlirIdentifierStr(mlirLocationNameGetName(location))));
        } else if mlirLocationIsAFused(location) {
            let n = mlirLocationFusedGetNumLocations(location) as usize;
            let mut parts = vec![MlirLocation { ptr: std::ptr::null() }; n];
            mlirLocationFusedGetLocations(location, parts.as_mut_ptr());
            parts.into_iter().for_each(|part| collect_names(part, names));
        } else if mlirLocationIsACallSite(location) {
            collect_names(mlirLocationCallSiteGetCallee(location), names);
        }
    }
}
