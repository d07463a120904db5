#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/module_commands.hpp"
#include "cli/output.hpp"

namespace troupe::cli {
namespace {

struct module_command {
  std::string file;
  bool json = false;
};

// "cpu, cuda"
std::vector<std::string> devices_of(const sandbox::native_op& op) {
  std::vector<std::string> devices{"cpu"};
  if (op.has_cuda) devices.emplace_back("cuda");
  return devices;
}

boost::json::array describe_native_ops(const modules::module& m) {
  const auto list = [](const std::vector<std::string>& values) {
    return boost::json::array(values.begin(), values.end());
  };
  boost::json::array out;
  for (const auto& op : m.declared_ops())
    out.emplace_back(boost::json::object{{"name", op.name},
                                         {"version", op.version},
                                         {"summary", op.summary},
                                         {"devices", list(devices_of(op))},
                                         {"inputs", list(op.inputs)},
                                         {"outputs", list(op.outputs)},
                                         {"weights", list(op.weights)},
                                         {"states", list(op.states)}});
  return out;
}

boost::json::object describe(const modules::module& m) {
  boost::json::array architectures;
  for (const std::string& a : m.architectures()) architectures.emplace_back(a);
  return {{"name", m.name()},
          {"version", m.version()},
          {"summary", m.summary()},
          {"architectures", std::move(architectures)},
          {"abi_major", m.abi_major()},
          {"abi_minor", m.abi_minor()},
          {"sha256", m.sha256()},
          {"file", m.origin().string()},
          {"staged", m.staged_path().string()},
          {"cell", m.walls()},
          {"native_ops", describe_native_ops(m)},
          {"trusted", m.trust().has_value()},
          {"trust", m.trust() ? *m.trust() : m.trust().error().text}};
}

// One line per op: name, version, devices, states, what it does; or the sentence that there are none.
std::string native_ops_in_words(const modules::module& m) {
  if (m.declared_ops().empty()) return "\n  no native ops: its code only runs in the cell\n";
  std::vector<std::vector<std::string>> rows{{"  NATIVE OP", "VERSION", "DEVICES", "STATES", "SUMMARY"}};
  for (const auto& op : m.declared_ops())
    rows.push_back({fmt::format("  {}", op.name), fmt::format("{}", op.version),
                    fmt::format("{}", fmt::join(devices_of(op), ", ")),
                    op.states.empty() ? "none" : fmt::format("{}", fmt::join(op.states, ", ")), op.summary});
  return fmt::format("\n{}\n  {}\n", table(rows),
                     m.trust() ? "may run in the server: " + *m.trust() : m.trust().error().text);
}

std::string describe_in_words(const modules::module& m) {
  return fmt::format(
      "{} {}\n  {}\n\n  architectures  {}\n  ABI            {}.{}\n  sha256         {}\n  file           "
      "{}\n  staged at      {}\n  cell           {}\n{}",
      m.name(), m.version(), m.summary(), fmt::join(m.architectures(), ", "), m.abi_major(), m.abi_minor(),
      m.sha256(), m.origin().string(), m.staged_path().string(), m.walls(), native_ops_in_words(m));
}

int inspect(const module_command& c, const context& shared) {
  const auto store = open_store(shared.paths);
  if (!store) return report(store.error());
  const auto module = store->load(c.file);
  if (!module) return report(module.error());
  return (c.json ? write_json(describe(**module)) : write_out(describe_in_words(**module))) ? exit_ok
                                                                                            : exit_failed;
}

int list(const module_command& c, const context& shared) {
  const auto known = load_modules(shared.paths);
  if (!known) return report(known.error());
  bool written = true;
  if (c.json) {
    boost::json::array modules, broken;
    for (const auto& m : known->registry.all()) modules.push_back(describe(*m));
    for (const error& e : known->broken) broken.emplace_back(e.text);
    written = write_json(boost::json::object{{"folder", shared.paths.modules.string()},
                                             {"modules", std::move(modules)},
                                             {"broken", std::move(broken)}});
  } else {
    std::vector<std::vector<std::string>> rows{{"MODULE", "VERSION", "ABI", "ARCHITECTURES", "SUMMARY"}};
    for (const auto& m : known->registry.all())
      rows.push_back({m->name(), m->version(), fmt::format("{}.{}", m->abi_major(), m->abi_minor()),
                      fmt::format("{}", fmt::join(m->architectures(), ", ")), m->summary()});
    written = write_out(rows.size() > 1 ? table(rows)
                                        : fmt::format("no modules in {}\n", shared.paths.modules.string()));
    for (const error& e : known->broken) fmt::print(stderr, "troupe: warning: {}\n", e.text);
  }
  return written && known->broken.empty() ? exit_ok : exit_failed;
}

}  // namespace

void add_module(CLI::App& app, context& shared) {
  auto o = std::make_shared<module_command>();
  auto* command = app.add_subcommand(
      "module", "Look at modules, the libraries that know model architectures; begin a new one");
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  troupe module list\n"
      "  troupe module inspect ./libmine.so --json\n"
      "  troupe module new my_model\n"
      "  troupe module check ./libmine.so --config config.json\n"
      "  troupe module trust add ./libmine.so\n");

  auto* one = command->add_subcommand("inspect", "Say what a module file is, or why it is none");
  one->add_option("file", o->file, "Shared library")->required();
  one->add_flag("--json", o->json, "One JSON object on stdout");
  one->footer(
      "The module's code runs in a cell, a process without rights, so any file may be looked at.\n\n"
      "Example:\n  troupe module inspect lib/troupe/modules/mixtral.so\n");
  one->callback([o, &shared] { shared.run = [o, &shared] { return inspect(*o, shared); }; });

  auto* all = command->add_subcommand("list", "List the installed modules");
  all->add_flag("--json", o->json, "One JSON object on stdout");
  all->footer("Example:\n  troupe module list\n");
  all->callback([o, &shared] { shared.run = [o, &shared] { return list(*o, shared); }; });

  add_module_new(*command, shared);
  add_module_check(*command, shared);
  add_module_trust(*command, shared);
}

}  // namespace troupe::cli
