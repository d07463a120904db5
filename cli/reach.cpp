#include "cli/reach.hpp"

#include <utility>

#include "cli/embedded.hpp"
#include "cli/local.hpp"

namespace troupe::cli {

error to_error(const client::failure& f) {
  return {f.code(), f.what()};
}

namespace {

result<client::connection> connect(const context& shared, const char* or_else) {
  try {
    return client::connect(shared.global.server);
  } catch (const client::failure& f) {
    if (f.code() != error_code::unavailable) return fail(to_error(f));
    return fail(error_code::unavailable,
                "no server at {}: start one with `troupe serve`, or name another one with --endpoint{} ({})",
                shared.global.server, or_else, f.what());
  }
}

}  // namespace

result<client::connection> reach_server(const context& shared) {
  return connect(shared, "");
}

result<reached_server> reach(const context& shared, const std::string& model) {
  if (!means_folder(model)) {
    auto connection = connect(shared, "; or give --model a checkpoint folder to do without");
    if (!connection) return fail(connection.error());
    return reached_server{nullptr, std::move(*connection), model};
  }
  const auto folder = find_model(model, shared.paths);
  if (!folder) return fail(folder.error());
  try {
    auto embedded = start_embedded(shared, *folder);
    if (!embedded) return fail(embedded.error());
    return reached_server{embedded->alive, std::move(embedded->connection), embedded->model};
  } catch (const client::failure& f) {
    return fail(to_error(f));
  }
}

}  // namespace troupe::cli
