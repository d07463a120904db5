#include "ops/backends/cuda/native_launch.hpp"

#include <cstddef>
#include <exception>

#include "kernel/base/clean_text.hpp"
#include "kernel/program/names.hpp"
#include "ops/device/native_workspace.hpp"

namespace troupe::ops::cuda {
namespace {

// Tables of modules that were compiled before there was such a body end in front of it.
bool has_cuda_body(const troupe_native_op& op) {
  return op.struct_size >= offsetof(troupe_native_op, cuda) + sizeof op.cuda && op.cuda != nullptr;
}

void place(std::span<troupe_tensor> tensors, std::span<void* const> data, std::size_t rows) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].shape[0] = rows;
    tensors[i].data = data[i];
  }
}

}  // namespace

result<std::unique_ptr<native_launch>> native_launch::make(const program::Program& program,
                                                           std::uint32_t index,
                                                           const program::native_ops& known,
                                                           const std::vector<checkpoint::bound_weight>& bound,
                                                           weight_store& weights, std::size_t first_state) {
  const program::Op& op = *program.ops()->Get(index);
  const auto& attrs = *op.attrs_as_NativeAttrs();
  auto made = std::unique_ptr<native_launch>(new native_launch);
  made->op_ = known.find(program::text(attrs.op()), attrs.version());
  made->where_ = program::native_op_text(program, index);
  if (!has_cuda_body(*made->op_))
    return fail(error_code::unsupported,
                "{}: the module brings no CUDA body for it; use device.backend = \"cpu\"", made->where_);
  made->use_ = std::make_unique<program::native_use>(program, op);
  made->first_state_ = first_state;
  const auto ids = program::values(op.weights());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    made->use_->weights()[i].dtype = static_cast<troupe_dtype>(bound[ids[i]].dtype);
    made->use_->weights()[i].planes = weights.stored(ids[i]);
  }
  return made;
}

std::size_t native_launch::workspace(std::size_t rows, std::size_t sequences) {
  const auto bytes = workspace_of(*op_, *use_, where_, rows, static_cast<std::uint32_t>(sequences), 1);
  refused_ = bytes ? std::string() : bytes.error().text;
  return bytes ? *bytes : 0;
}

result<void> native_launch::launch(const step_frame& f, std::size_t rows, bool of_logit_rows,
                                   std::span<void* const> inputs, std::span<void* const> outputs) {
  if (!refused_.empty()) return fail(error_code::internal, "{}", refused_);
  place(use_->inputs(), inputs, rows);
  place(use_->outputs(), outputs, rows);
  troupe_native_step step = {};
  step.struct_size = sizeof step;
  step.threads = 1;
  step.rows = rows;
  step.sequences = of_logit_rows ? 0 : static_cast<std::uint32_t>(f.sequences);
  step.sequence_rows = of_logit_rows ? nullptr : f.sequence_rows;
  step.positions = of_logit_rows ? nullptr : f.first_positions;
  step.states = f.states + first_state_;
  step.workspace = f.workspace;
  try {
    if (op_->cuda(&use_->table(), &step, f.stream) == TROUPE_OK) return {};
  } catch (const std::exception& e) {
    return fail(error_code::internal, "{}: an exception crossed the interface: {}", where_,
                clean_text(e.what(), longest_message));
  } catch (...) {
    return fail(error_code::internal, "{}: an exception crossed the interface", where_);
  }
  const auto problem = use_->take_problem();
  return fail(error_code::internal, "{}: {}", where_, problem.empty() ? "failed without a reason" : problem);
}

}  // namespace troupe::ops::cuda
