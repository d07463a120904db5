// `troupe module new`: writes a module project from the installed template.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "cli/module_commands.hpp"
#include "cli/output.hpp"

namespace troupe::cli {
namespace fs = std::filesystem;
namespace {

struct new_module {
  std::string name;          // of the module, its library and its source file
  std::string architecture;  // in config.json; empty = made from the name
  fs::path folder;           // where to write
  fs::path templates;        // the template's folder
};

// The names that the template itself bears, which stand for the new ones.
constexpr std::string_view template_name = "my_model", template_architecture = "MyModelForCausalLM";

// Targets that CMake makes by itself, or that would hide a tool.
constexpr const char* reserved[] = {
    "all",  "clean",   "edit_cache",    "help", "install", "list_install_components",
    "none", "package", "rebuild_cache", "test", "troupe"};

bool is_word(const std::string& text, const char* more) {
  return std::all_of(text.begin(), text.end(), [&](unsigned char c) {
    return c < 128 && (std::isalnum(c) != 0 ||
                       std::string_view(more).find(static_cast<char>(c)) != std::string_view::npos);
  });
}

result<void> check_names(const new_module& m) {
  const bool lower =
      std::none_of(m.name.begin(), m.name.end(), [](unsigned char c) { return std::isupper(c) != 0; });
  if (m.name.empty() || m.name.size() > 64 || !lower ||
      std::isalpha(static_cast<unsigned char>(m.name[0])) == 0 || !is_word(m.name, "_"))
    return fail(error_code::invalid_request,
                "{}: not a name for a module: expected a-z, 0-9 and _, beginning with a letter, at most 64",
                m.name);
  if (std::find(std::begin(reserved), std::end(reserved), m.name) != std::end(reserved))
    return fail(error_code::invalid_request, "{}: CMake has a target of this name: choose another", m.name);
  if (!m.architecture.empty() && (m.architecture.size() > 128 || !is_word(m.architecture, "_")))
    return fail(error_code::invalid_request,
                "--architecture {}: expected letters, digits and _, as in config.json's architectures",
                m.architecture);
  return {};
}

// "my_model" -> "MyModelForCausalLM"
std::string architecture_of(const std::string& name) {
  std::string out;
  bool up = true;
  for (const char c : name) {
    if (c != '_') out += up ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    up = c == '_';
  }
  return out + "ForCausalLM";
}

std::string replaced(std::string text, std::string_view from, const std::string& to) {
  for (auto at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

result<void> check_folder(const fs::path& folder) {
  std::error_code code;
  if (!fs::exists(folder, code)) return {};
  if (!fs::is_directory(folder, code))
    return fail(error_code::invalid_request,
                "{}: is a file; nothing was written: name another folder with --dir", folder.string());
  if (!fs::is_empty(folder, code) || code)
    return fail(error_code::invalid_request,
                "{}: is there already and not empty; nothing was written: name another folder with --dir",
                folder.string());
  return {};
}

result<void> write_file(const fs::path& from, const fs::path& to, const new_module& m) {
  std::ifstream in(from, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) return fail(error_code::not_found, "{}: cannot be read", from.string());
  std::ofstream out(to, std::ios::binary);
  out << replaced(replaced(text, template_name, m.name), template_architecture, m.architecture);
  out.close();
  if (!out) return fail(error_code::not_found, "{}: cannot be written", to.string());
  return {};
}

// Writes the template's files under the new names; answers them, relative to the folder. Nothing is ever overwritten.
result<std::vector<std::string>> write_module(const new_module& given) {
  if (auto ok = check_names(given); !ok) return fail(std::move(ok.error()));
  new_module m = given;
  if (m.architecture.empty()) m.architecture = architecture_of(m.name);
  if (auto ok = check_folder(m.folder); !ok) return fail(std::move(ok.error()));
  std::error_code code;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(m.templates, code), end; !code && entry != end; entry.increment(code))
    if (entry->is_regular_file(code)) files.push_back(entry->path());
  if (code || files.empty())
    return fail(error_code::not_found,
                "{}: the template of a new module is missing: install Troupe's component sdk",
                m.templates.string());
  fs::create_directories(m.folder, code);
  if (code)
    return fail(error_code::not_found, "{}: cannot be created: {}", m.folder.string(), code.message());
  std::vector<std::string> written;
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    auto name = replaced(file.filename().string(), template_name, m.name);
    if (auto ok = write_file(file, m.folder / name, m); !ok) return fail(std::move(ok.error()));
    written.push_back(std::move(name));
  }
  return written;
}

struct new_command {
  std::string name, architecture, folder;
};

// How CMake finds the package that this command belongs to.
struct package_place {
  std::string first;   // a line that must be run before; empty = none
  std::string option;  // of cmake
};
package_place find_package(const config::install_paths& paths) {
  std::error_code ignored;
  const bool installed = fs::exists(paths.libraries / "cmake" / "Troupe" / "TroupeConfig.cmake", ignored);
  if (!installed)  // a build tree
    return {fmt::format("  cmake --install \"{}\" --prefix \"$HOME/.local\"\n", paths.prefix.string()),
            " -DCMAKE_PREFIX_PATH=\"$HOME/.local\""};
  if (paths.prefix == "/usr" || paths.prefix == "/usr/local") return {};
  return {{}, fmt::format(" -DCMAKE_PREFIX_PATH=\"{}\"", paths.prefix.string())};
}

int write_new(const new_command& c, const context& shared) {
  const fs::path folder = c.folder.empty() ? fs::path(c.name) : fs::path(c.folder);
  const auto written = write_module({c.name, c.architecture, folder, shared.paths.share / "template"});
  if (!written) return report(written.error());
  const auto where = folder.string();
  const auto library = fmt::format("{}/build/lib/troupe/modules/{}.so", where, c.name);
  const auto package = find_package(shared.paths);
  const bool shown =
      write_out(fmt::format("wrote {0}: {1}\n\nnext:\n{4}"
                            "  cmake -S {0} -B {0}/build{2}\n"
                            "  cmake --build {0}/build\n"
                            "  troupe module inspect {3}\n"
                            "  troupe program --config {0}/config.json --module {3}\n",
                            where, fmt::join(*written, ", "), package.option, library, package.first));
  return shown ? exit_ok : exit_failed;
}

}  // namespace

void add_module_new(CLI::App& module, context& shared) {
  auto o = std::make_shared<new_command>();
  auto* command =
      module.add_subcommand("new", "Write the project of a new module: a small decoder that you extend");
  command->add_option("name", o->name, "Of the module: a-z, 0-9 and _")->required();
  command->add_option("--dir", o->folder, "Folder to write, new or empty (default: the name, here)");
  command->add_option(
      "--architecture", o->architecture,
      "In config.json's architectures (default: made from the name: my_model, MyModelForCausalLM)");
  command->footer(
      "The project builds with CMake against the installed Troupe and needs nothing of its source. Nothing "
      "is overwritten.\n\n"
      "Example:\n"
      "  troupe module new my_model\n"
      "  troupe module new llama --architecture LlamaForCausalLM --dir ~/src/llama-module\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return write_new(*o, shared); }; });
}

}  // namespace troupe::cli
