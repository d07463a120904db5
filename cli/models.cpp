#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/model_table.hpp"
#include "cli/output.hpp"
#include "cli/reach.hpp"
#include "kernel/checkpoint/checkpoint.hpp"

namespace troupe::cli {
namespace {

struct models_command {
  bool json = false;
  bool local = false;
};

// The demo checkpoints of this installation: name, architecture, folder.
int list_local(const models_command& c, const context& shared) {
  boost::json::array list;
  std::vector<std::vector<std::string>> rows{{"NAME", "ARCHITECTURE", "FOLDER"}};
  for (const std::string& name : demo_models(shared.paths)) {
    const auto folder = shared.paths.share / "demo" / name;
    const auto config = checkpoint::read_config(folder);
    if (!config) return report(config.error());
    list.push_back(boost::json::object{
        {"name", name}, {"architecture", config->architecture}, {"folder", folder.string()}});
    rows.push_back({name, config->architecture, folder.string()});
  }
  if (c.json) return write_json(boost::json::object{{"models", std::move(list)}}) ? exit_ok : exit_failed;
  return write_out(rows.size() > 1 ? table(rows) : "no demo checkpoints are installed\n") ? exit_ok
                                                                                          : exit_failed;
}

int list_served(const models_command& c, const context& shared) {
  const auto server = reach_server(shared);
  if (!server) return report(server.error());
  try {
    const auto models = server->models();
    const bool written = c.json ? write_json(boost::json::object{{"models", models_json(models)}})
                                : write_out(models_text(models));
    return written ? exit_ok : exit_failed;
  } catch (const client::failure& f) {
    return report(to_error(f));
  }
}

}  // namespace

void add_models(CLI::App& app, context& shared) {
  auto o = std::make_shared<models_command>();
  auto* command = app.add_subcommand("models", "List the models that a server has");
  command->add_flag("--local", o->local,
                    "List the demo checkpoints of this installation instead; needs no server");
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "Examples:\n"
      "  troupe models\n"
      "  troupe models --endpoint tcp://box:7410 --json | jq -r '.models[].name'\n"
      "  troupe models --local\n");
  command->callback([o, &shared] {
    shared.run = [o, &shared] { return o->local ? list_local(*o, shared) : list_served(*o, shared); };
  });
}

}  // namespace troupe::cli
