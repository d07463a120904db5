#include <fmt/format.h>
#include <toml++/toml.h>

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "kernel/base/text.hpp"
#include "kernel/config/config.hpp"
#include "kernel/config/keys.hpp"

namespace troupe::config {

namespace {

namespace fs = std::filesystem;

// Where the text comes from, for errors and relative paths.
struct origin {
  std::string_view name;
  fs::path folder;
};

std::string at(const origin& from, const toml::source_region& place) {
  return fmt::format("{}:{}", from.name, place.begin.line);
}

value to_value(const toml::node& node) {
  if (const auto* x = node.as_boolean()) return x->get();
  if (const auto* x = node.as_integer()) return x->get();
  if (const auto* x = node.as_floating_point()) return x->get();
  if (const auto* x = node.as_string()) return x->get();
  if (const auto* list = node.as_array()) {
    std::vector<std::string> texts;
    for (const auto& item : *list) {
      const auto* text = item.as_string();
      if (!text) return {};
      texts.push_back(text->get());
    }
    return texts;
  }
  return {};
}

// The value as it stands in the file, for errors.
std::string shown(const toml::node& node) {
  if (const auto* text = node.as_string()) return fmt::format("\"{}\"", text->get());
  std::ostringstream out;
  node.visit([&](const auto& x) {
    if constexpr (toml::is_value<decltype(x)>) {
      out << toml::node_view<const toml::node>(x);
    } else if constexpr (toml::is_array<decltype(x)>) {
      out << x;
    } else {
      out << "a table";
    }
  });
  return out.str();
}

std::set<std::string> sections() {
  std::set<std::string> names;
  for (const key& k : all_keys()) names.emplace(k.section);
  return names;
}

std::string did_you_mean(const std::string& near) {
  return near.empty() ? std::string() : fmt::format("; did you mean \"{}\"?", near);
}

// What to say about a key that the section does not have: a near one there, or the section where it belongs.
std::string hint_for(std::string_view section, std::string_view name) {
  std::vector<std::string> here;
  for (const key& k : all_keys()) {
    if (k.section == section) here.emplace_back(k.name);
    if (k.section != section && k.name == name) return fmt::format("; it belongs to [{}]", k.section);
  }
  return did_you_mean(nearest(name, here));
}

const key* find_key(std::string_view section, std::string_view name) {
  for (const key& k : all_keys())
    if (k.section == section && k.name == name) return &k;
  return nullptr;
}

result<void> read_section(configuration& into, std::string_view section, const toml::table& table,
                          const origin& from) {
  for (const auto& [name, node] : table) {
    const key* k = find_key(section, name.str());
    if (!k)
      return fail(error_code::bad_config, "{}: unknown key \"{}\" in [{}]{}", at(from, name.source()),
                  name.str(), section, hint_for(section, name.str()));
    if (!k->set(into, to_value(node), from.folder))
      return fail(error_code::bad_config, "{}: {}.{} is {}; expected {}", at(from, node.source()), section,
                  k->name, shown(node), k->expects);
  }
  return {};
}

result<void> read_models(configuration& into, const toml::node& node, const origin& from) {
  const toml::array* list = node.as_array();
  if (!list || !list->is_array_of_tables())
    return fail(error_code::bad_config, "{}: \"model\" stands in double brackets, once per model: [[model]]",
                at(from, node.source()));
  for (const auto& item : *list) {
    into.models.emplace_back();
    if (auto done = read_section(into, "model", *item.as_table(), from); !done) return done;
    if (into.models.back().path.empty())
      return fail(error_code::bad_config, "{}: this [[model]] has no \"path\" (the folder of its checkpoint)",
                  at(from, item.source()));
  }
  return {};
}

result<void> read_all(configuration& into, const toml::table& root, const origin& from) {
  const auto known = sections();
  for (const auto& [name, node] : root) {
    if (!known.contains(std::string(name.str()))) {
      const bool section = node.is_table() || node.is_array_of_tables();
      std::string hint = section ? did_you_mean(nearest(name.str(), known)) : hint_for("", name.str());
      return fail(error_code::bad_config, "{}: unknown {} \"{}\"{}", at(from, name.source()),
                  section ? "section" : "key", name.str(), hint);
    }
    if (name.str() == "model") {
      if (auto done = read_models(into, node, from); !done) return done;
      continue;
    }
    const toml::table* table = node.as_table();
    if (!table)
      return fail(error_code::bad_config, "{}: \"{}\" is a section: [{}]", at(from, name.source()),
                  name.str(), name.str());
    if (auto done = read_section(into, name.str(), *table, from); !done) return done;
  }
  return {};
}

}  // namespace

result<configuration> parse(std::string_view text, std::string_view name, const fs::path& folder) {
  const origin from{name, folder};
  configuration made;
  try {
    const toml::table root = toml::parse(text, name);
    if (auto done = read_all(made, root, from); !done) return fail(std::move(done.error()));
  } catch (const toml::parse_error& problem) {
    return fail(error_code::bad_config, "{}: {}", at(from, problem.source()), problem.description());
  }
  if (auto done = check(made); !done) return fail(done.error().code, "{}: {}", name, done.error().text);
  return made;
}

result<configuration> load(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in || fs::is_directory(file))
    return fail(error_code::not_found, "configuration file {} cannot be read", file.string());
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return parse(text, file.string(), fs::absolute(file).parent_path());
}

result<void> assign(configuration& into, std::string_view assignment) {
  const auto equals = assignment.find('=');
  const auto dot = assignment.find('.');
  if (equals == std::string_view::npos || dot == std::string_view::npos || dot > equals)
    return fail(error_code::bad_config, "\"{}\": expected section.key=value", assignment);
  const auto name = assignment.substr(0, equals);
  const key* k = find_key(name.substr(0, dot), name.substr(dot + 1));
  if (k && k->section == "model")
    return fail(error_code::bad_config, "\"{}\": models cannot be set this way; name folders with --model",
                name);
  if (!k)
    return fail(error_code::bad_config, "\"{}\": no such key{}", name,
                did_you_mean(nearest(name, known_keys())));
  const std::string text(assignment.substr(equals + 1));
  value given = text;
  try {
    const toml::table parsed = toml::parse("x = " + text);
    if (const auto* node = parsed.get("x"); node && parsed.size() == 1) given = to_value(*node);
  } catch (const toml::parse_error&) {
    // a plain string without its quotes
  }
  if (!k->set(into, given, fs::current_path()))
    return fail(error_code::bad_config, "{} is {}; expected {}", name, text.empty() ? "empty" : text,
                k->expects);
  return {};
}

}  // namespace troupe::config
