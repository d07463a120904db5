#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <CLI/CLI.hpp>
#include <iterator>
#include <memory>
#include <string>
#include <thread>

#include "cli/commands.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_table.hpp"
#include "cli/output.hpp"
#include "cli/reach.hpp"
#include "kernel/base/text.hpp"
#include "kernel/config/config.hpp"

namespace troupe::cli {
namespace {

std::string duration_text(std::uint64_t ms) {
  const std::uint64_t s = ms / 1000;
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
}

boost::json::object status_json(const client::server_status& s) {
  boost::json::array restarts;
  for (const auto& r : s.restarts)
    restarts.push_back(
        boost::json::object{{"actor", r.actor}, {"restarts", r.restarts}, {"last_reason", r.last_reason}});
  return {{"version", s.version},
          {"uptime_ms", s.uptime_ms},
          {"clients", s.clients},
          {"open_requests", s.open_requests},
          {"bad_frames", s.bad_frames},
          {"cache", boost::json::object{{"blocks", s.cache.blocks},
                                        {"free_blocks", s.cache.free_blocks},
                                        {"cached_blocks", s.cache.cached_blocks},
                                        {"block_bytes", s.cache.block_bytes}}},
          {"models", models_json(s.models)},
          {"operations", operations_json(s.operations)},
          {"restarts", std::move(restarts)}};
}

std::string status_text(const client::server_status& s, const std::string& endpoint) {
  std::string out = fmt::format(
      "{} at {}, up {}\nclients {}   open requests {}   refused frames {}\n"
      "cache    {} of {} blocks in use, {} each; {} of the free ones hold reusable prefixes\n\n{}",
      s.version, endpoint, duration_text(s.uptime_ms), s.clients, s.open_requests, s.bad_frames,
      s.cache.blocks - s.cache.free_blocks, s.cache.blocks, human_bytes(s.cache.block_bytes),
      s.cache.cached_blocks, status_table(s.models));
  if (!s.operations.empty()) out += "\noperations under way:\n";
  for (const auto& o : s.operations)
    fmt::format_to(std::back_inserter(out), "  {} {} {}: {} for {:.1f} s\n", o.operation, o.verb, o.model,
                   o.state, o.took_ms / 1000);
  if (!s.restarts.empty()) out += "\nrestarted since the start:\n";
  for (const auto& r : s.restarts)
    fmt::format_to(std::back_inserter(out), "  {} {} times, last: {}\n", r.actor, r.restarts, r.last_reason);
  return out;
}

struct status_command {
  bool json = false;
  bool watch = false;
  std::string every = "1s";
};

// Again and again, from the top of the screen; where nobody looks, one below the other.
bool follow(const client::connection& server, bool json, client::milliseconds every) {
  const interrupt_guard guard;
  const bool screen = !json && is_terminal(STDOUT_FILENO);
  while (!interrupt_guard::pressed()) {
    const auto s = server.status();
    const std::string text = status_text(s, server.endpoint());
    if (!(json ? write_json(status_json(s)) : write_out(screen ? "\x1b[H\x1b[J" + text : text + '\n')))
      return false;
    const auto next = std::chrono::steady_clock::now() + every;
    while (!interrupt_guard::pressed() && std::chrono::steady_clock::now() < next)
      std::this_thread::sleep_for(std::min<client::milliseconds>(every, client::milliseconds(20)));
  }
  return true;
}

int show_status(const status_command& c, const context& shared) {
  const auto every = config::parse_duration(c.every);
  if (!every || every->count() <= 0)
    return report_usage(fmt::format("--every: \"{}\" is no duration; expected one like 500ms, 2s", c.every));
  const bool json = c.json;
  const auto server = reach_server(shared);
  if (!server) return report(server.error());
  try {
    if (c.watch) return follow(*server, json, *every) ? exit_ok : exit_failed;
    const auto s = server->status();
    return (json ? write_json(status_json(s)) : write_out(status_text(s, server->endpoint()))) ? exit_ok
                                                                                               : exit_failed;
  } catch (const client::failure& f) {
    return report(to_error(f));
  }
}

}  // namespace

void add_status(CLI::App& app, context& shared) {
  auto c = std::make_shared<status_command>();
  auto* command = app.add_subcommand("status", "Show how a server is doing");
  command->add_flag("--json", c->json, "One JSON object on stdout");
  command->add_flag("--watch", c->watch, "Again and again, until Ctrl-C");
  command->add_option("--every", c->every, "With --watch: how often")->capture_default_str();
  command->footer(
      "Examples:\n"
      "  troupe status\n"
      "  troupe status --watch\n"
      "  troupe status --json | jq .cache.free_blocks\n");
  command->callback([c, &shared] { shared.run = [c, &shared] { return show_status(*c, shared); }; });
}

}  // namespace troupe::cli
