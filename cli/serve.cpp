// troupe serve: reads the configuration, starts a server, says what is served, waits for a signal, drains.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "actors/server/server.hpp"
#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/signals.hpp"
#include "cli/version.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::cli {

namespace {

namespace fs = std::filesystem;

constexpr auto at_once = std::chrono::seconds(1);            // for actors to end after a second signal
constexpr auto start_ends_within = std::chrono::seconds(5);  // after a signal

struct serve_options {
  std::string config_file;
  std::vector<std::string> models;  // folder, or name=folder
  std::vector<std::string> listen;
  std::vector<std::string> assignments;  // section.key=value
  std::string ready_file;
};

// "folder" or "name=folder"; a folder may have a "=" in its name.
result<config::model_section> read_model(const std::string& text, const config::install_paths& paths) {
  config::model_section model;
  std::error_code ignored;
  const auto equals = text.find('=');
  const bool named = equals != std::string::npos && !fs::is_directory(text, ignored);
  if (named) model.name = text.substr(0, equals);
  auto folder = find_model(named ? text.substr(equals + 1) : text, paths);
  if (!folder) return fail(std::move(folder.error()));
  model.path = fs::absolute(*folder);
  return model;
}

// Command line over file over defaults.
result<config::configuration> read_configuration(const serve_options& options, const global_options& global,
                                                 const config::install_paths& paths) {
  config::configuration wanted;
  if (!options.config_file.empty()) {
    auto loaded = config::load(options.config_file);
    if (!loaded) return fail(std::move(loaded.error()));
    wanted = std::move(*loaded);
  }
  for (const std::string& assignment : options.assignments)
    if (auto done = config::assign(wanted, assignment); !done) return fail(std::move(done.error()));
  if (!options.listen.empty()) wanted.server.listen = options.listen;
  if (!global.log_level.empty()) wanted.log.level = global.log_level;
  if (!global.colour) wanted.log.colour = false;
  if (!options.models.empty()) wanted.models.clear();
  for (const std::string& text : options.models) {
    auto model = read_model(text, paths);
    if (!model) return fail(std::move(model.error()));
    wanted.models.push_back(std::move(*model));
  }
  if (auto done = config::check(wanted); !done) return fail(std::move(done.error()));
  return wanted;
}

result<void> set_up_log(const config::log_section& wanted) {
  auto least = log::parse_level(wanted.level);
  if (!least) return fail(std::move(least.error()));
  return log::configure({.least = *least,
                         .form = wanted.format == "json" ? log::format::json : log::format::text,
                         .file = wanted.file,
                         .colour = wanted.colour});
}

// One endpoint per line; appears complete or not at all.
result<void> write_ready_file(const fs::path& file, const std::vector<std::string>& endpoints) {
  const fs::path part = file.string() + ".part";
  std::ofstream out(part);
  for (const auto& endpoint : endpoints) out << endpoint << '\n';
  out.close();
  std::error_code problem;
  if (out) fs::rename(part, file, problem);
  if (!out || problem) return fail(error_code::not_found, "--ready-file {} cannot be written", file.string());
  return {};
}

void announce(const server& running, bool demo) {
  for (const auto& endpoint : running.endpoints()) fmt::print("troupe {} serves on {}\n", version, endpoint);
  for (const auto& model : running.models())
    fmt::print("  {}  {}, {:.1f} M parameters, {} tokens of context, {} {}\n", model->name,
               model->checkpoint.architecture, static_cast<double>(model->parameters) / 1e6,
               model->context_tokens, model->module->name(), model->module->version());
  if (demo)
    fmt::print(
        "No model was named: this is the demo model that comes with Troupe (--model <folder> serves "
        "yours).\n");
  const std::string where = running.endpoints().front() == default_endpoint
                                ? std::string()
                                : fmt::format(" --endpoint {}", running.endpoints().front());
  fmt::print("Talk to it: troupe chat{}   Stop: Ctrl-C\n", where);
  std::fflush(stdout);
}

[[noreturn]] void leave(int status, bool all_finished) {
  log::info("serve", "stopped", {{"all_finished", all_finished}});
  std::fflush(nullptr);
  std::_Exit(status);
}

// The end of a process whose actors do not end: its destructors would wait for them.
[[noreturn]] void leave(server& running, int status, bool all_finished) {
  running.close_endpoints();
  leave(status, all_finished);
}

// Does the work on a thread of its own, so that this one hears signals. `heard` is called with the number of each, from 1, and says
// how long the work may go on (none: as long as it likes); when that time is over, `give_up` ends the process.
void work_beside_signals(const signal_wait& signals, const std::function<void()>& work,
                         const std::function<std::optional<std::chrono::seconds>(int)>& heard,
                         const std::function<void()>& give_up) {
  std::atomic<bool> done = false;
  std::thread worker([&] {
    work();
    done = true;
    signals.wake();
  });
  int count = 0;
  std::optional<std::chrono::steady_clock::time_point> end;
  while (!done) {
    const auto event = end ? signals.wait_until(*end) : signals.wait();
    if (event == signal_wait::event::timeout) give_up();
    if (event != signal_wait::event::stop_signal) continue;
    if (const auto left = heard(++count)) end = std::chrono::steady_clock::now() + *left;
  }
  worker.join();
}

// Nobody is served yet: a signal ends the process soon, whatever is being loaded.
result<std::unique_ptr<server>> start(server_options how, const signal_wait& signals) {
  std::stop_source stop;
  how.stop = stop.get_token();
  result<std::unique_ptr<server>> made = fail(error_code::internal, "not started");
  work_beside_signals(
      signals, [&] { made = server::start(std::move(how)); },
      [&](int count) -> std::optional<std::chrono::seconds> {
        if (count == 1) log::info("serve", "stopping before all models are ready", {});
        stop.request_stop();
        return count == 1 ? start_ends_within : std::chrono::seconds(0);
      },
      [] { leave(exit_ok, true); });
  if (!made || !stop.stop_requested()) return made;
  (*made)->drain_and_stop({});
  return fail(error_code::shutting_down, "stopped before it was announced");
}

bool drain(server& running, std::chrono::milliseconds deadline, const signal_wait& signals) {
  log::info("serve", "draining", {{"deadline_s", static_cast<double>(deadline.count()) / 1000}});
  bool in_time = false;
  work_beside_signals(
      signals, [&] { in_time = running.drain_and_stop(deadline); },
      [&](int count) -> std::optional<std::chrono::seconds> {
        if (count > 1) return std::nullopt;
        log::warning("serve", "second signal: stopping at once");
        running.stop_now();
        return at_once;
      },
      [&] { leave(running, exit_ok, false); });
  if (running.is_stuck()) leave(running, exit_ok, in_time);
  return in_time;
}

int serve(const serve_options& options, const context& shared) {
  auto wanted = read_configuration(options, shared.global, shared.paths);
  if (!wanted) return report(wanted.error());
  if (auto done = set_up_log(wanted->log); !done) return report(done.error());

  const signal_wait signals;  // before any thread
  std::mutex guard;
  std::optional<std::string> given_up;
  server_options how;
  how.config = *wanted;
  how.paths = shared.paths;
  how.show_progress = isatty(STDERR_FILENO) == 1;
  how.gave_up = [&](const std::string& why) {
    const std::lock_guard lock(guard);
    given_up = why;
    signals.wake();
  };
  auto running = start(std::move(how), signals);
  if (!running && running.error().code == error_code::shutting_down) {
    log::info("serve", "stopped", {{"all_finished", true}});
    return exit_ok;
  }
  if (!running) return report(running.error());
  if (!options.ready_file.empty())
    if (auto done = write_ready_file(options.ready_file, (*running)->endpoints()); !done)
      return report(done.error());
  announce(**running, wanted->models.empty());

  while (true) {
    const auto event = signals.wait();
    const std::lock_guard lock(guard);
    if (given_up) {
      const int status = report({error_code::internal, "the server has given up: " + *given_up});
      (*running)->drain_and_stop({});
      if ((*running)->is_stuck()) leave(**running, status, false);
      return status;
    }
    if (event == signal_wait::event::stop_signal) break;
  }
  const bool in_time = drain(**running, wanted->server.drain, signals);
  log::info("serve", "stopped", {{"all_finished", in_time}});
  return exit_ok;
}

}  // namespace

void add_serve(CLI::App& app, context& shared) {
  auto options = std::make_shared<serve_options>();
  CLI::App* command = app.add_subcommand("serve", "Serve models until SIGTERM or Ctrl-C");
  command->add_option("--config", options->config_file,
                      "TOML file; share/troupe/default.toml explains every key");
  command->add_option(
      "--model", options->models,
      "Checkpoint folder in Hugging Face format, or name=folder; may be repeated; none: the demo model");
  command->add_option("--listen", options->listen,
                      "Endpoint such as tcp://127.0.0.1:7410 (port * = any free one); may be repeated");
  command->add_option(
      "--set", options->assignments,
      "One key of the configuration: section.key=value, e.g. cache.memory=1GiB; may be repeated");
  command->add_option("--ready-file", options->ready_file,
                      "File that gets the bound endpoints, one per line, when all models are ready");
  command->footer(
      "\nThe first SIGTERM or Ctrl-C refuses new requests and lets open ones finish (server.drain, 30s "
      "unless configured); "
      "a second one stops at once. One that comes while models are being loaded stops at once, too.\n"
      "Examples:\n"
      "  troupe serve\n"
      "  troupe serve --model mixtral=checkpoints/mixtral --listen tcp://0.0.0.0:7410\n"
      "  troupe serve --config troupe.toml --set cache.memory=4GiB");
  command->callback(
      [options, &shared] { shared.run = [options, &shared] { return serve(*options, shared); }; });
}

}  // namespace troupe::cli
