#include "cli/version.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <CLI/CLI.hpp>
#include <memory>

#include "actors/replies.hpp"
#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "kernel/abi/troupe/module.h"

namespace troupe::cli {
namespace {

// "cpu" for libtroupe-cpu.so.
std::vector<std::string> backends_in(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() == ".so" && stem.starts_with("libtroupe-")) out.push_back(stem.substr(10));
  }
  std::sort(out.begin(), out.end());
  return out;
}

int show_version(bool json, const context& shared) {
  const auto backends = backends_in(shared.paths.libraries);
  if (json) {
    boost::json::array names;
    for (const std::string& b : backends) names.emplace_back(b);
    return write_json(boost::json::object{{"version", version},
                                          {"build_type", TROUPE_BUILD_TYPE},
                                          {"compiler", TROUPE_COMPILER},
                                          {"abi_major", TROUPE_ABI_MAJOR},
                                          {"abi_minor", TROUPE_ABI_MINOR},
                                          {"protocol", protocol_version},
                                          {"backends", std::move(names)},
                                          {"prefix", shared.paths.prefix.string()}})
               ? exit_ok
               : exit_failed;
  }
  return write_out(fmt::format("troupe {}\n  build       {}, {}\n  module ABI  {}.{}\n  protocol    {}\n  "
                               "backends    {}\n  installed   {}\n",
                               version, TROUPE_BUILD_TYPE, TROUPE_COMPILER, TROUPE_ABI_MAJOR,
                               TROUPE_ABI_MINOR, protocol_version,
                               backends.empty() ? fmt::format("none in {}", shared.paths.libraries.string())
                                                : fmt::format("{}", fmt::join(backends, ", ")),
                               shared.paths.prefix.string()))
             ? exit_ok
             : exit_failed;
}

}  // namespace

void add_version(CLI::App& app, context& shared) {
  auto json = std::make_shared<bool>(false);
  auto* command = app.add_subcommand("version", "Say what this build is and what it can load");
  command->add_flag("--json", *json, "One JSON object on stdout");
  command->footer("Example:\n  troupe version --json | jq -r .version\n");
  command->callback(
      [json, &shared] { shared.run = [json, &shared] { return show_version(*json, shared); }; });
}

}  // namespace troupe::cli
