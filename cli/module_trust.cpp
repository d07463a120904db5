// troupe module sign, troupe module trust
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.hpp"
#include "cli/module_commands.hpp"
#include "cli/output.hpp"
#include "kernel/modules/signature.hpp"
#include "kernel/modules/stage.hpp"
#include "kernel/modules/trust.hpp"

namespace troupe::cli {
namespace {

namespace fs = std::filesystem;

struct trust_command {
  std::string file;
  std::string key;
  std::string sha256;
  std::string note;
  std::string list;
  std::string digits;
  bool json = false;
};

result<std::string> sha256_of(const fs::path& library) {
  const auto bytes = modules::read_library(library);
  if (!bytes) return fail(bytes.error());
  return modules::sha256_hex(*bytes);
}

int sign_module(const trust_command& c) {
  const auto sha256 = sha256_of(c.file);
  if (!sha256) return report(sha256.error());
  const auto made = modules::sign(c.key, *sha256);
  if (!made) return report(made.error());
  const fs::path file = modules::signature_file(c.file);
  if (auto ok = modules::add_signature(file, *made); !ok) return report(ok.error());
  return write_out(fmt::format("signed {}\n  sha256     {}\n  key        {}\n  signature  {}\n", c.file,
                               *sha256, made->key, file.string()))
             ? exit_ok
             : exit_failed;
}

result<fs::path> list_of(const trust_command& c, const context& shared) {
  if (!c.list.empty()) return c.list;
  if (!shared.paths.trusted_modules.empty()) return shared.paths.trusted_modules;
  return fail(error_code::bad_config,
              "there is no home folder for the list of trusted modules: name it with --list");
}

// What --key means: digits, or a file with a key.
result<std::string> key_digits(const std::string& given) {
  if (modules::is_hex(given, 32)) return given;
  return modules::read_public_key(given);
}

result<modules::trust_list::entry> wanted_entry(const trust_command& c) {
  if (!c.key.empty()) {
    auto digits = key_digits(c.key);
    if (!digits) return fail(std::move(digits.error()));
    return modules::trust_list::entry{"ed25519", std::move(*digits), c.note};
  }
  if (!c.sha256.empty()) {
    if (!modules::is_hex(c.sha256, 32))
      return fail(error_code::bad_config, "--sha256: expected 64 lowercase hex digits, found {}", c.sha256);
    return modules::trust_list::entry{"sha256", c.sha256, c.note};
  }
  auto sha256 = sha256_of(c.file);
  if (!sha256) return fail(std::move(sha256.error()));
  return modules::trust_list::entry{"sha256", std::move(*sha256), c.note};
}

int add_entry(const trust_command& c, const context& shared) {
  const auto given = !c.file.empty() + !c.key.empty() + !c.sha256.empty();
  if (given != 1) return report_usage("expected one of: a module file, --key, --sha256");
  const auto file = list_of(c, shared);
  if (!file) return report(file.error());
  auto list = modules::trust_list::load(*file);
  if (!list) return report(list.error());
  auto entry = wanted_entry(c);
  if (!entry) return report(entry.error());
  if (entry->note.empty() && list->find(entry->kind, entry->hex) == nullptr)
    entry->note = fs::path(c.file).filename().string();
  const std::string text = fmt::format("{} {}", entry->kind, entry->hex);
  const bool is_new = list->add(std::move(*entry));
  if (auto ok = list->save(*file); !ok) return report(ok.error());
  return write_out(fmt::format("{} {} in {}\n", is_new ? "added" : "is already there:", text, file->string()))
             ? exit_ok
             : exit_failed;
}

int remove_entry(const trust_command& c, const context& shared) {
  const auto file = list_of(c, shared);
  if (!file) return report(file.error());
  auto list = modules::trust_list::load(*file);
  if (!list) return report(list.error());
  const auto gone = list->remove(c.digits);
  if (!gone)
    return report(
        {error_code::not_found,
         fmt::format("{}: expected exactly one entry whose digits begin with {} (at least 8 of them)",
                     file->string(), c.digits)});
  if (auto ok = list->save(*file); !ok) return report(ok.error());
  return write_out(fmt::format("removed {} {} from {}\n", gone->kind, gone->hex, file->string()))
             ? exit_ok
             : exit_failed;
}

int show_list(const trust_command& c, const context& shared) {
  const auto file = list_of(c, shared);
  if (!file) return report(file.error());
  const auto list = modules::trust_list::load(*file);
  if (!list) return report(list.error());
  if (c.json) {
    boost::json::array entries;
    for (const auto& e : list->entries())
      entries.emplace_back(boost::json::object{{"kind", e.kind}, {"hex", e.hex}, {"note", e.note}});
    return write_json(boost::json::object{{"file", file->string()}, {"entries", std::move(entries)}})
               ? exit_ok
               : exit_failed;
  }
  std::vector<std::vector<std::string>> rows{{"KIND", "DIGITS", "NOTE"}};
  for (const auto& e : list->entries()) rows.push_back({e.kind, e.hex, e.note});
  const std::string text =
      rows.size() > 1
          ? table(rows)
          : fmt::format("nothing is listed in {}; what came with Troupe is trusted\n", file->string());
  return write_out(text) ? exit_ok : exit_failed;
}

void add_sign(CLI::App& module, context& shared) {
  auto o = std::make_shared<trust_command>();
  auto* command = module.add_subcommand("sign", "Sign a module with an Ed25519 key");
  command->add_option("file", o->file, "Shared library")->required();
  command->add_option("--key", o->key, "Private key, PEM")->required();
  command->footer(
      "Writes <file>.sig, to be handed out beside the file. Operators who trust the public key need not list "
      "each version.\n\n"
      "Example:\n"
      "  openssl genpkey -algorithm ed25519 -out key.pem\n"
      "  troupe module sign mine.so --key key.pem\n");
  command->callback([o, &shared] { shared.run = [o] { return sign_module(*o); }; });
}

void add_trust(CLI::App& module, context& shared) {
  auto* trust = module.add_subcommand("trust", "Say which modules with native ops may run in the server");
  trust->require_subcommand(1);
  trust->footer(
      "Native ops are code of the module that runs in the server's own process. Modules without them need no "
      "trust.\n"
      "What came with Troupe is trusted; others by their SHA-256, or by the key that signed them.\n\n"
      "Examples:\n"
      "  troupe module trust list\n"
      "  troupe module trust add ./mine.so\n"
      "  troupe module trust add --key public.pem --note \"the people next door\"\n"
      "  troupe module trust remove 3f2a91bc\n");
  const auto add = [&](const char* name, const char* what, auto run) {
    auto o = std::make_shared<trust_command>();
    auto* command = trust->add_subcommand(name, what);
    command->add_option("--list", o->list, "The list; else trusted_modules in the user's config folder");
    command->callback([o, run, &shared] { shared.run = [o, run, &shared] { return run(*o, shared); }; });
    return std::pair(command, o);
  };
  {
    const auto [command, o] = add("list", "Show what is trusted", &show_list);
    command->add_flag("--json", o->json, "One JSON object on stdout");
    command->footer("Example:\n  troupe module trust list\n");
  }
  {
    const auto [command, o] = add("add", "Trust a file, a SHA-256 or a key", &add_entry);
    command->add_option("file", o->file, "Module: its SHA-256 is listed");
    command->add_option("--key", o->key, "Public key: a PEM file, or 64 hex digits");
    command->add_option("--sha256", o->sha256, "64 hex digits");
    command->add_option("--note", o->note, "For people");
    command->footer("Example:\n  troupe module trust add ./mine.so\n");
  }
  const auto [command, o] = add("remove", "Trust it no longer", &remove_entry);
  command->add_option("digits", o->digits, "The beginning of an entry's digits, at least 8")->required();
  command->footer("Example:\n  troupe module trust remove 3f2a91bc\n");
}

}  // namespace

void add_module_trust(CLI::App& module, context& shared) {
  add_sign(module, shared);
  add_trust(module, shared);
}

}  // namespace troupe::cli
