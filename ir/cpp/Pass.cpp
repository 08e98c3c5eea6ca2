// Passes whose body is Rust, registered by name with their options in MLIR's registry, and mlir-opt's main.
#include "Tile.h"
#include "mlir/CAPI/IR.h"
#include "mlir/CAPI/Registration.h"
#include "mlir/CAPI/Support.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
using namespace mlir;

extern "C" {
struct KilnOption {
  MlirStringRef name, description, value;
};
// Lives for ever; `user` is the Rust description of the pass.
struct KilnPass {
  const void *user;
  MlirStringRef name, description;
  const KilnOption *options;
  intptr_t numOptions;
  void *(*create)(const void *user);
  void (*destroy)(void *instance);
  // False for a bad value; the reason is left in `error` through the callback.
  bool (*setOption)(void *instance, intptr_t index, MlirStringRef value, MlirStringCallback error, void *data);
  bool (*run)(void *instance, MlirOperation module);
};
}

namespace {
struct RustPass : public Pass {
  const KilnPass *info;
  void *instance;
  std::vector<std::unique_ptr<Pass::Option<std::string>>> values;

  void declareOptions() {
    for (const KilnOption &o : ArrayRef(info->options, info->numOptions))
      values.push_back(std::make_unique<Pass::Option<std::string>>(*this, unwrap(o.name), llvm::cl::desc(unwrap(o.description)),
                                                                   llvm::cl::init(unwrap(o.value).str())));
  }
  RustPass(const KilnPass *info, TypeID id)
      : Pass(id, ModuleOp::getOperationName()), info(info), instance(info->create(info->user)) {
    declareOptions();
  }
  RustPass(const RustPass &other) : Pass(other), info(other.info), instance(info->create(info->user)) {
    declareOptions();
    copyOptionValuesFrom(&other);
  }
  ~RustPass() override { info->destroy(instance); }

  StringRef getName() const override { return unwrap(info->name); }
  StringRef getArgument() const override { return unwrap(info->name); }
  StringRef getDescription() const override { return unwrap(info->description); }
  bool canScheduleOn(RegisteredOperationName name) const override { return name.getStringRef() == ModuleOp::getOperationName(); }
  // A pass may make ops of either dialect whatever it was given.
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<kiln::nn::NnDialect, kiln::tile::TileDialect>();
  }
  std::unique_ptr<Pass> clonePass() const override { return std::make_unique<RustPass>(*this); }

  LogicalResult initialize(MLIRContext *context) override {
    for (size_t i = 0; i < values.size(); ++i) {
      std::string reason;
      auto append = [](MlirStringRef text, void *data) { static_cast<std::string *>(data)->append(text.data, text.length); };
      if (!info->setOption(instance, i, wrap(StringRef(values[i]->getValue())), append, &reason))
        return emitError(UnknownLoc::get(context))
               << "pass '" << getArgument() << "': bad value '" << values[i]->getValue() << "' for option '"
               << unwrap(info->options[i].name) << "': " << reason;
    }
    return success();
  }
  void runOnOperation() override {
    if (!info->run(instance, wrap(getOperation()))) signalPassFailure();
  }
};
} // namespace

extern "C" {
void kilnRegisterPass(const KilnPass *info) {
  static auto *ids = new TypeIDAllocator();
  TypeID id = ids->allocate();
  registerPass([info, id]() -> std::unique_ptr<Pass> { return std::make_unique<RustPass>(info, id); });
}

int kilnMlirOptMain(int argc, char **argv, MlirStringRef tool, MlirDialectRegistry registry) {
  return asMainReturnCode(MlirOptMain(argc, argv, unwrap(tool), *unwrap(registry)));
}
}
