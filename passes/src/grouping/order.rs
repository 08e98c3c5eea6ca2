//! In which order a stored value's axes lie.

use crate::axes::{AxisId, Graph, Kind};

/// The order of axes in the storage of each node, were it stored. A product of an activation and a weight is written
/// row by row, as the activation is; what follows elementwise is written as its operand is. Everything else is in the
/// order of its axes.
pub(super) fn orders(graph: &Graph) -> Vec<Vec<AxisId>> {
    let mut orders: Vec<Vec<AxisId>> = Vec::with_capacity(graph.nodes.len());
    let mut is_weight: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let operands: Vec<usize> = node.operands.iter().map(|o| o.0 as usize).collect();
        let is_leaf = operands.is_empty();
        let constant = matches!(node.kind, Kind::Weight { .. } | Kind::Const { .. });
        is_weight.push(constant || (!is_leaf && operands.iter().all(|&o| is_weight[o])));
        let same_axes = |a: &[AxisId]| a.len() == node.axes.len() && a.iter().all(|x| node.axes.contains(x));
        let order = match &node.kind {
            Kind::Ein { .. } if operands.len() == 2 && is_weight[operands[0]] != is_weight[operands[1]] => {
                let (rows, columns) = if is_weight[operands[0]] { (1, 0) } else { (0, 1) };
                let mut order: Vec<AxisId> = Vec::new();
                for axis in orders[operands[rows]].iter().chain(&orders[operands[columns]]) {
                    if node.axes.contains(axis) && !order.contains(axis) {
                        order.push(*axis);
                    }
                }
                Some(order)
            }
            Kind::Map(_) | Kind::Cast => {
                operands.iter().find(|&&o| !is_weight[o] && same_axes(&orders[o])).map(|&o| orders[o].clone())
            }
            Kind::Reduce { axes, .. } => {
                operands.first().map(|&o| orders[o].iter().copied().filter(|a| !axes.contains(a)).collect())
            }
            Kind::Rename { pairs } => operands.first().map(|&o| {
                let renamed = |a: &AxisId| pairs.iter().find(|(old, _)| old == a).map_or(*a, |(_, new)| *new);
                orders[o].iter().map(renamed).collect()
            }),
            _ => None,
        };
        orders.push(order.filter(|o| same_axes(o)).unwrap_or_else(|| node.axes.clone()));
    }
    orders
}
