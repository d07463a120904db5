#include "cli/operate.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <troupe/operations.hpp>

#include "cli/interrupt.hpp"
#include "cli/model_table.hpp"
#include "cli/output.hpp"
#include "cli/reach.hpp"
#include "kernel/base/text.hpp"
#include "kernel/config/config.hpp"

namespace troupe::cli {
namespace {

struct operate_command {
  std::string target;  // a folder, or a model's name
  std::string name;
  std::uint32_t max_context = 0;
  std::string deadline = "0s";
  std::uint32_t limit = 0;
  std::optional<std::uint64_t> expected_generation;
  bool dry_run = false;
  bool queue = false;
  bool json = false;

  client::operation_options how() const { return {expected_generation, dry_run, queue}; }
};

std::string clock_text(std::uint64_t unix_ms) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(static_cast<std::time_t>(unix_ms / 1000)));
}

std::string generation_text(const client::operation_info& o) {
  if (o.old_generation == o.new_generation) return fmt::format("{}", o.old_generation);
  return fmt::format("{} -> {}", o.old_generation, o.new_generation);
}

boost::json::object operated_json(const client::operated& done) {
  auto out = operation_json(done.info);
  boost::json::array report;
  for (const auto& line : done.report) report.emplace_back(line);
  out["report"] = std::move(report);
  out["bytes_loaded"] = done.bytes_loaded;
  out["bytes_freed"] = done.bytes_freed;
  out["streams_finished"] = done.streams_finished;
  out["streams_ended"] = done.streams_ended;
  return out;
}

std::string operated_text(const client::operated& done) {
  const auto& o = done.info;
  std::string out = fmt::format("{}{} {}: {} in {:.1f} s, generation {}\n", o.dry_run ? "dry run: " : "",
                                o.verb, o.model, o.state, o.took_ms / 1000, generation_text(o));
  for (const auto& line : done.report) out += "  " + line + '\n';
  if (done.bytes_loaded > 0)
    out += fmt::format("  {} {} of weights\n", o.dry_run ? "would load" : "loaded",
                       human_bytes(done.bytes_loaded));
  if (done.bytes_freed > 0) out += fmt::format("  freed {}\n", human_bytes(done.bytes_freed));
  if (done.streams_finished + done.streams_ended > 0)
    out += fmt::format("  streams: {} came to their end, {} were ended\n", done.streams_finished,
                       done.streams_ended);
  return out;
}

// Runs `what` against the server at --endpoint.
template <class What>
int with_server(const context& shared, What what) {
  const auto server = reach(shared, "");
  if (!server) return report(server.error());
  try {
    return what(client::operations(server->connection)) ? exit_ok : exit_failed;
  } catch (const client::failure& f) {
    return report(to_error(f));
  }
}

bool show(const client::operated& done, bool json) {
  return json ? write_json(operated_json(done)) : write_out(operated_text(done));
}

int load(const operate_command& c, const context& shared) {
  const auto folder = std::filesystem::absolute(c.target).lexically_normal();
  return with_server(shared, [&](const client::operations& server) {
    return show(server.load(folder.string(), c.name, c.max_context, c.how()), c.json);
  });
}

int unload(const operate_command& c, const context& shared) {
  const auto deadline = config::parse_duration(c.deadline);
  if (!deadline)
    return report_usage(
        fmt::format("--deadline: \"{}\" is no duration; expected one like 500ms, 30s, 5min", c.deadline));
  return with_server(shared, [&](const client::operations& server) {
    return show(server.unload(c.target, *deadline, c.how()), c.json);
  });
}

std::string history_text(const std::vector<client::operation_info>& all) {
  if (all.empty()) return "no operations yet\n";
  std::vector<std::vector<std::string>> rows{
      {"NUMBER", "BEGUN", "MODEL", "VERB", "STATE", "GENERATION", "SECONDS", "REASON"}};
  for (const auto& o : all)
    rows.push_back({std::to_string(o.operation), clock_text(o.begun_ms), o.model,
                    o.verb + (o.dry_run ? " (dry run)" : ""), o.state, generation_text(o),
                    fmt::format("{:.1f}", o.took_ms / 1000), escaped(o.reason)});
  return table(rows);
}

int history(const operate_command& c, const context& shared) {
  return with_server(shared, [&](const client::operations& server) {
    const auto all = server.history(c.target, c.limit);
    if (!c.json) return write_out(history_text(all));
    return write_json(boost::json::object{{"operations", operations_json(all)}});
  });
}

std::string event_text(const client::operation_info& o) {
  return fmt::format("{}  {} {} {}: {}{}{}\n", clock_text(o.begun_ms + static_cast<std::uint64_t>(o.took_ms)),
                     o.operation, o.verb, o.model, o.state, o.reason.empty() ? "" : ": ", escaped(o.reason));
}

int events(const operate_command& c, const context& shared) {
  const interrupt_guard guard;
  return with_server(shared, [&](const client::operations& server) {
    auto stream = server.events(c.target);
    while (!interrupt_guard::pressed()) {
      const auto event = stream.next(client::milliseconds(100));
      if (event && !(c.json ? write_json(operation_json(*event)) : write_out(event_text(*event)))) break;
    }
    return true;
  });
}

using command_function = int (*)(const operate_command&, const context&);

void run_with(CLI::App* command, const std::shared_ptr<operate_command>& c, context& shared,
              command_function what) {
  command->add_flag("--json", c->json, "One JSON object a line on stdout");
  command->callback([c, &shared, what] { shared.run = [c, &shared, what] { return what(*c, shared); }; });
}

void add_how(CLI::App* command, const std::shared_ptr<operate_command>& c) {
  command->add_option("--expected-generation", c->expected_generation,
                      "Only if the model is of that generation; 0 = only if it is not served");
  command->add_flag("--dry-run", c->dry_run, "Only look, and say what would happen");
  command->add_flag("--queue", c->queue,
                    "Wait behind another operation on the model instead of being refused");
}

}  // namespace

void add_load(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  auto* command = app.add_subcommand("load", "Have a running server serve another checkpoint");
  command->add_option("checkpoint", c->target, "Folder in Hugging Face format, on the server's machine")
      ->required();
  command->add_option("--name", c->name, "Under which clients ask for it; default: the folder's name");
  command->add_option("--max-context", c->max_context, "Tokens of context at most; 0 = the model's");
  add_how(command, c);
  command->footer(
      "Examples:\n"
      "  troupe load models/fox\n"
      "  troupe load models/fox --name fox-2 --dry-run\n");
  run_with(command, c, shared, load);
}

void add_unload(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  auto* command = app.add_subcommand("unload", "Have a running server serve a model no longer");
  command->add_option("model", c->target, "Its name")->required();
  command->add_option("--deadline", c->deadline, "How long its streams may go on; 0s = to their end")
      ->capture_default_str();
  add_how(command, c);
  command->footer(
      "Examples:\n"
      "  troupe unload fox\n"
      "  troupe unload fox --deadline 30s --expected-generation 3\n");
  run_with(command, c, shared, unload);
}

void add_history(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  auto* command = app.add_subcommand("history", "List the operations that changed what a server serves");
  command->add_option("model", c->target, "Only those on this model");
  command->add_option("--limit", c->limit, "Only the latest so many");
  command->footer(
      "Examples:\n"
      "  troupe history\n"
      "  troupe history fox --json | jq '.operations[-1].reason'\n");
  run_with(command, c, shared, history);
}

void add_events(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  auto* command = app.add_subcommand("events", "Follow operations as they happen, until Ctrl-C");
  command->add_option("model", c->target, "Only those on this model");
  command->footer(
      "Examples:\n"
      "  troupe events\n"
      "  troupe events fox --json\n");
  run_with(command, c, shared, events);
}

}  // namespace troupe::cli
