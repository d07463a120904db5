#include "ops/device/native_workspace.hpp"

namespace troupe::ops {

constexpr std::uint64_t largest_workspace = std::uint64_t{1} << 40;

result<std::uint64_t> workspace_of(const troupe_native_op& op, program::native_use& use,
                                   std::string_view where, std::uint64_t rows, std::uint32_t sequences,
                                   std::uint32_t threads) {
  if (op.workspace == nullptr) return 0;
  const auto bytes = op.workspace(&use.table(), rows, sequences, threads);
  if (bytes <= largest_workspace) return bytes;
  const auto problem = use.take_problem();
  if (bytes == TROUPE_NO_WORKSPACE && !problem.empty())
    return fail(error_code::internal, "{}: its workspace: {}", where, problem);
  return fail(error_code::internal, "{}: asks for a workspace of {} bytes", where, bytes);
}

}  // namespace troupe::ops
