#include "cli/operate.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
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
  std::string module;
  std::string move = "automatic";
  std::string verify;
  std::string probation;
  std::uint32_t probation_requests = 0;
  std::string share = "100%";
  bool sticky = false;
  bool off = false;

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
  out["sequences_continued"] = done.sequences_continued;
  out["sequences_recomputed"] = done.sequences_recomputed;
  out["bytes_shared"] = done.bytes_shared;
  out["caches_kept"] = done.caches_kept;
  out["pause_ms"] = done.pause_ms;
  out["usual_pause_ms"] = done.usual_pause_ms;
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
  if (done.bytes_shared > 0)
    out += fmt::format("  shared {} with the version before\n", human_bytes(done.bytes_shared));
  if (done.sequences_continued + done.sequences_recomputed > 0)
    out += fmt::format("  sequences: {} went on where they stood, {} were recomputed from their tokens\n",
                       done.sequences_continued, done.sequences_recomputed);
  if (done.pause_ms > 0)
    out += fmt::format("  longest pause between two tokens {:.1f} ms, usually {:.1f} ms\n", done.pause_ms,
                       done.usual_pause_ms);
  return out;
}

// Runs `what` against the server at --endpoint.
template <class What>
int with_server(const context& shared, What what) {
  const auto server = reach_server(shared);
  if (!server) return report(server.error());
  try {
    return what(client::operations(*server)) ? exit_ok : exit_failed;
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

// Nothing, and told on stderr, if the text is none.
std::optional<client::milliseconds> read_time(const std::string& option, const std::string& text) {
  if (const auto time = config::parse_duration(text)) return *time;
  (void)report_usage(
      fmt::format("{}: \"{}\" is no duration; expected one like 500ms, 30s, 5min", option, text));
  return std::nullopt;
}

std::optional<client::move> read_move(const std::string& text) {
  static const std::map<std::string, client::move> known = {{"automatic", client::move::automatic},
                                                            {"carry", client::move::carry},
                                                            {"recompute", client::move::recompute},
                                                            {"finish", client::move::finish}};
  if (const auto found = known.find(text); found != known.end()) return found->second;
  (void)report_usage(fmt::format("--move: \"{}\" is none of automatic, carry, recompute, finish", text));
  return std::nullopt;
}

// exact, off, or the largest difference of a logit.
template <class Options>
bool read_verify(const std::string& text, Options& to) {
  if (text.empty()) return true;
  if (text == "exact") return to.verify = client::verify::exact, true;
  if (text == "off") return to.verify = client::verify::off, true;
  char* end = nullptr;
  to.max_logit_diff = std::strtof(text.c_str(), &end);
  to.verify = client::verify::max_logit_diff;
  if (end == text.c_str() + text.size() && to.max_logit_diff > 0 && std::isfinite(to.max_logit_diff))
    return true;
  (void)report_usage(fmt::format("--verify: \"{}\" is none of exact, off, or a number above 0", text));
  return false;
}

template <class Options>
bool read_change(const operate_command& c, Options& to) {
  const auto move = read_move(c.move);
  const auto deadline = read_time("--deadline", c.deadline);
  if (!move || !deadline || !read_verify(c.verify, to)) return false;
  to.move = *move;
  to.deadline = *deadline;
  to.probation_requests = c.probation_requests;
  if (c.probation.empty()) return true;
  const auto probation = read_time("--probation", c.probation);
  if (probation) to.probation = *probation;
  return probation.has_value();
}

std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

int swap(const operate_command& c, const context& shared) {
  client::swap_options wanted;
  if (!read_change(c, wanted)) return exit_usage;
  return with_server(shared, [&](const client::operations& server) {
    return show(server.swap(c.target, absolute(c.module), wanted, c.how()), c.json);
  });
}

int deploy(const operate_command& c, const context& shared) {
  client::deploy_options wanted;
  if (!read_change(c, wanted)) return exit_usage;
  char* end = nullptr;
  const auto share = std::strtoul(c.share.c_str(), &end, 10);
  if (end == c.share.c_str() || (*end != '\0' && std::string_view(end) != "%") || share < 1 || share > 100)
    return report_usage(fmt::format("--share: \"{}\" is no share; expected 1% to 100%", c.share));
  wanted.share_percent = static_cast<std::uint32_t>(share);
  wanted.sticky = c.sticky;
  wanted.module = absolute(c.module);
  wanted.max_context = c.max_context;
  return with_server(shared, [&](const client::operations& server) {
    return show(server.deploy(c.target, absolute(c.name), wanted, c.how()), c.json);
  });
}

int promote(const operate_command& c, const context& shared) {
  return with_server(shared, [&](const client::operations& server) {
    return show(server.promote(c.target, c.how()), c.json);
  });
}

using timed_verb = client::operated (client::operations::*)(const std::string&, client::milliseconds,
                                                            const client::operation_options&) const;

template <timed_verb Verb>
int run_timed(const operate_command& c, const context& shared) {
  const auto deadline = read_time("--deadline", c.deadline);
  if (!deadline) return exit_usage;
  return with_server(shared, [&](const client::operations& server) {
    return show((server.*Verb)(c.target, *deadline, c.how()), c.json);
  });
}

int wake(const operate_command& c, const context& shared) {
  return with_server(
      shared, [&](const client::operations& server) { return show(server.wake(c.target, c.how()), c.json); });
}

int pin(const operate_command& c, const context& shared) {
  return with_server(shared, [&](const client::operations& server) {
    return show(server.pin(c.target, !c.off, c.how()), c.json);
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
  command
      ->add_option("--expected-generation", c->expected_generation,
                   "Only if the model is of that generation; 0 = only if it is not served")
      ->check([](const std::string& text) {
        return text.starts_with("-") ? fmt::format("\"{}\": generations count from 0", text) : std::string();
      });
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
  run_with(command, c, shared, run_timed<&client::operations::unload>);
}

namespace {

struct command_text {
  const char* name;
  const char* what;
  const char* examples;
};

// A command that is about one model.
CLI::App* add_for_model(CLI::App& app, context& shared, const std::shared_ptr<operate_command>& c,
                        const command_text& text, command_function what) {
  auto* command = app.add_subcommand(text.name, text.what);
  command->add_option("model", c->target, "Its name")->required();
  command->footer(text.examples);
  add_how(command, c);
  run_with(command, c, shared, what);
  return command;
}

void add_deadline(CLI::App* command, const std::shared_ptr<operate_command>& c) {
  command->add_option("--deadline", c->deadline, "How long its streams may go on; 0s = to their end")
      ->capture_default_str();
}

void add_change(CLI::App* command, const std::shared_ptr<operate_command>& c, const char* verify,
                const char* probation) {
  command
      ->add_option(
          "--move", c->move,
          "What becomes of running sequences: automatic, carry (go on with their caches), recompute (from "
          "their tokens), finish (stay with the old version)")
      ->capture_default_str();
  command->add_option("--deadline", c->deadline, "With finish: after so long they are recomputed; 0s = never")
      ->capture_default_str();
  command->add_option("--verify", c->verify, verify);
  command->add_option("--probation", c->probation, probation);
  command->add_option("--probation-requests", c->probation_requests,
                      "... or as soon as so many sequences have ended");
}

}  // namespace

void add_swap(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  auto* command = add_for_model(app, shared, c,
                                {"swap", "Run a model with another module, while its streams go on",
                                 "Examples:\n"
                                 "  troupe swap fox build/mixtral.so\n"
                                 "  troupe swap fox build/mixtral.so --dry-run\n"
                                 "  troupe swap fox build/mixtral.so --verify 0.01 --probation 1min\n"},
                                swap);
  command->add_option("module", c->module, "The library, on the server's machine")->required();
  add_change(command, c,
             "Results on probe prompts must be: exact (default) the same bits, a number: no logit differs by "
             "more, off",
             "Promoted after so long without an alarm; default 5s");
}

void add_deploy(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  auto* command = add_for_model(app, shared, c,
                                {"deploy", "Serve other weights under a model's name",
                                 "Examples:\n"
                                 "  troupe deploy fox models/fox-2\n"
                                 "  troupe deploy fox models/fox-2 --share 10% --sticky --probation 10min\n"},
                                deploy);
  command->add_option("checkpoint", c->name, "Folder in Hugging Face format, on the server's machine")
      ->required();
  command->add_option("--module", c->module, "Library that builds its Program; default: the installed one");
  command->add_option("--max-context", c->max_context, "Tokens of context at most; 0 = the model's");
  command->add_option("--share", c->share, "Of new requests, while it is on probation")
      ->capture_default_str();
  command->add_flag("--sticky", c->sticky, "The share is one of clients, who stay with what they got first");
  add_change(command, c, "As for swap; default off", "Promoted after so long without an alarm; default 10s");
}

void add_promote(CLI::App& app, context& shared) {
  add_for_model(app, shared, std::make_shared<operate_command>(),
                {"promote", "End the probation of a swap or a deployment: it stays",
                 "Example:\n  troupe promote fox\n"},
                promote);
}

void add_rollback(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  add_deadline(add_for_model(app, shared, c,
                             {"rollback", "Take back what is on probation, or go back to the version before",
                              "Examples:\n  troupe rollback fox\n  troupe rollback fox --dry-run\n"},
                             run_timed<&client::operations::rollback>),
               c);
}

void add_sleep(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  add_deadline(add_for_model(app, shared, c,
                             {"sleep", "Take no requests for a model and give its memory on the device back",
                              "Example:\n  troupe sleep fox --deadline 30s\n"},
                             run_timed<&client::operations::sleep>),
               c);
}

void add_drain(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  add_deadline(add_for_model(app, shared, c,
                             {"drain", "Take no new requests for a model and wait for the open ones",
                              "Example:\n  troupe drain fox --deadline 5min\n"},
                             run_timed<&client::operations::drain>),
               c);
}

void add_wake(CLI::App& app, context& shared) {
  add_for_model(app, shared, std::make_shared<operate_command>(),
                {"wake", "Serve a model again that sleeps or was drained", "Example:\n  troupe wake fox\n"},
                wake);
}

void add_pin(CLI::App& app, context& shared) {
  auto c = std::make_shared<operate_command>();
  add_for_model(
      app, shared, c,
      {"pin", "Refuse operations on a model", "Examples:\n  troupe pin fox\n  troupe pin fox --off\n"}, pin)
      ->add_flag("--off", c->off, "Allow them again");
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
