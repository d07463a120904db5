#include "cli/reach.hpp"

#include <utility>

#include "cli/embedded.hpp"
#include "cli/local.hpp"

namespace troupe::cli {

error to_error(const client::failure& f) {
  return {f.code(), f.what()};
}

result<reached_server> reach(const context& shared, const std::string& model) {
  try {
    if (means_folder(model)) {
      const auto folder = find_model(model, shared.paths);
      if (!folder) return fail(folder.error());
      auto embedded = start_embedded(shared, *folder);
      if (!embedded) return fail(embedded.error());
      return reached_server{embedded->alive, std::move(embedded->connection), embedded->model};
    }
    return reached_server{nullptr, client::connect(shared.global.server), model};
  } catch (const client::failure& f) {
    if (f.code() != error_code::unavailable) return fail(to_error(f));
    return fail(
        error_code::unavailable,
        "no server at {}: start one with `troupe serve`, name another one with --endpoint, or give --model a "
        "checkpoint folder to do without ({})",
        shared.global.server, f.what());
  }
}

}  // namespace troupe::cli
