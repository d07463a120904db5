#include "ops/backends/cpu/native_step.hpp"

#include <exception>
#include <new>

#include "kernel/base/clean_text.hpp"
#include "kernel/program/names.hpp"
#include "ops/device/native_workspace.hpp"

namespace troupe::ops::cpu {
namespace {

// The ABI's parallel_for over the executor's threads.
void parallel_for(void* context, std::uint64_t count, std::uint64_t grain, troupe_native_part part,
                  void* part_context) {
  static_cast<thread_pool*>(context)->parallel_for(
      count, grain,
      [=](std::size_t begin, std::size_t end, unsigned worker) { part(part_context, begin, end, worker); });
}

void place(std::span<troupe_tensor> tensors, std::span<void* const> data, std::size_t rows) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].shape[0] = rows;
    tensors[i].data = data[i];
  }
}

void place_states(native_step& s, std::span<float* const> slots) {
  for (std::size_t i = 0; i < s.states.size(); ++i) {
    s.state_rows[i].clear();
    for (float* slot : slots) s.state_rows[i].push_back(slot + s.states[i]);
    s.state_tables[i] = s.state_rows[i].data();
  }
}

troupe_native_step describe(execution& on, const native_step& s, const native_batch& batch) {
  troupe_native_step out = {};
  out.struct_size = sizeof out;
  out.threads = on.threads().size();
  out.rows = batch.rows;
  out.sequences = static_cast<std::uint32_t>(batch.positions.size());
  out.sequence_rows = batch.sequence_rows.data();
  out.positions = batch.positions.data();
  out.states = s.state_tables.data();
  out.context = &on.threads();
  out.parallel_for = &parallel_for;
  return out;
}

}  // namespace

native_step make_native_step(const program::Program& program, std::uint32_t index,
                             const program::native_ops& known,
                             const std::vector<checkpoint::bound_weight>& weights,
                             std::vector<std::size_t> states) {
  const program::Op& op = *program.ops()->Get(index);
  const auto& attrs = *op.attrs_as_NativeAttrs();
  native_step s;
  s.op = known.find(program::text(attrs.op()), attrs.version());
  s.where = program::native_op_text(program, index);
  s.use = std::make_unique<program::native_use>(program, op);
  s.inputs = program::values(op.inputs());
  s.outputs = program::values(op.outputs());
  const auto ids = program::values(op.weights());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto& bound = weights[ids[i]];
    s.planes.emplace_back(bound.planes.begin(), bound.planes.end());
    s.use->weights()[i].dtype = static_cast<troupe_dtype>(bound.dtype);
    s.use->weights()[i].planes = s.planes.back().data();
  }
  s.state_rows.resize(states.size());
  s.state_tables.resize(states.size());
  s.states = std::move(states);
  return s;
}

namespace {

// Null = there is no memory for it.
std::byte* take_workspace(execution& on, std::uint64_t bytes) {
  try {
    return on.shared(execution::workspace).take<std::byte>(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

}  // namespace

result<void> run_native(execution& on, native_step& s, const native_batch& batch,
                        std::span<void* const> inputs, std::span<void* const> outputs) {
  place(s.use->inputs(), inputs, batch.rows);
  place(s.use->outputs(), outputs, batch.rows);
  place_states(s, batch.slots);
  auto step = describe(on, s, batch);
  const auto* use = &s.use->table();
  try {
    const auto bytes = workspace_of(*s.op, *s.use, s.where, step.rows, step.sequences, step.threads);
    if (!bytes) return fail(bytes.error());
    if (*bytes > 0) step.workspace = take_workspace(on, *bytes);
    if (*bytes > 0 && step.workspace == nullptr)
      return fail(error_code::internal, "{}: no memory for its workspace of {} bytes in a step of {} rows",
                  s.where, *bytes, batch.rows);
    if (s.op->cpu(use, &step) == TROUPE_OK) return {};
  } catch (const std::exception& e) {
    return fail(error_code::internal, "{}: an exception crossed the interface: {}", s.where,
                clean_text(e.what(), longest_message));
  } catch (...) {
    return fail(error_code::internal, "{}: an exception crossed the interface", s.where);
  }
  const auto problem = s.use->take_problem();
  return fail(error_code::internal, "{}: {}", s.where, problem.empty() ? "failed without a reason" : problem);
}

}  // namespace troupe::ops::cpu
