#include <charconv>

#include "actors/tokenizer/hf_tokenizer.hpp"

namespace troupe::text {
namespace {

namespace fs = std::filesystem;

// A token's name: "<s>", {"content": "<s>", ...} or null.
std::string token_name(const setting& root, std::string_view key) {
  if (!root.has(key)) return {};
  const setting s = root.at(key);
  return s.is_string() ? s.string() : s.at("content").string();
}

// One template, or a list of named ones of which "default" counts.
std::string template_source(const setting& root) {
  if (!root.has("chat_template")) return {};
  const setting s = root.at("chat_template");
  if (s.is_string()) return s.string();
  for (const auto& item : s.items()) {
    if (item.at("name").string() == "default") return item.at("template").string();
  }
  return {};
}

std::vector<added_token> added_tokens(const setting& root) {
  std::vector<added_token> out;
  if (!root.has("added_tokens_decoder")) return out;
  const setting all = root.at("added_tokens_decoder");
  for (const auto& [key, value] : all.object()) {
    const setting s(value, fmt::format("{}['{}']", all.path(), std::string_view(key)));
    added_token t;
    const auto [end, failed] = std::from_chars(key.data(), key.data() + key.size(), t.id);
    if (failed != std::errc() || end != key.data() + key.size() || t.id < 0)
      s.refuse("the key is not a token id");
    t.content = s.at("content").string();
    t.special = s.boolean_or("special", false);
    t.single_word = s.boolean_or("single_word", false);
    t.lstrip = s.boolean_or("lstrip", false);
    t.rstrip = s.boolean_or("rstrip", false);
    t.normalized = s.boolean_or("normalized", !t.special);
    out.push_back(std::move(t));
  }
  return out;
}

void fill_names(const setting& root, tokenizer_names& names) {
  const auto fill = [&](std::string& name, std::string_view key) {
    if (name.empty()) name = token_name(root, key);
  };
  fill(names.bos, "bos_token");
  fill(names.eos, "eos_token");
  fill(names.unk, "unk_token");
  fill(names.pad, "pad_token");
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (names.special.contains(key)) continue;
    if (auto name = token_name(root, key); !name.empty()) names.special[key] = name;
  }
  constexpr std::string_view more = "additional_special_tokens";
  if (names.special.contains(more) || !root.has(more)) return;
  boost::json::array list;
  for (const auto& item : root.at(more).items())
    list.emplace_back(item.is_string() ? item.string() : item.at("content").string());
  names.special[more] = std::move(list);
}

// Runs `read` on the file's JSON. Absent files are no error.
template <class F>
result<void> with_optional(const fs::path& file, F read) {
  std::error_code ec;
  if (!fs::exists(file, ec)) return {};
  const auto document = read_json_file(file);
  if (!document) return fail(document.error());
  try {
    read(setting(*document, ""));
  } catch (const malformed& e) {
    return fail(error_code::bad_checkpoint, "{}: {}", file.string(), e.what());
  }
  return {};
}

result<tokenizer_names> read_names(const fs::path& folder) {
  tokenizer_names names;
  auto done = with_optional(folder / "tokenizer_config.json", [&](const setting& root) {
    fill_names(root, names);
    names.chat_template = template_source(root);
    names.added = added_tokens(root);
  });
  if (done) {
    done = with_optional(folder / "special_tokens_map.json",
                         [&](const setting& root) { fill_names(root, names); });
  }
  if (!done) return fail(done.error());
  std::error_code ec;
  if (fs::exists(folder / "chat_template.jinja", ec)) {
    auto source = read_text_file(folder / "chat_template.jinja");
    if (!source) return fail(source.error());
    names.chat_template = std::move(*source);
  }
  return names;
}

}  // namespace

result<tokenizer_ptr> load_tokenizer(const fs::path& folder) {
  const fs::path file = folder / "tokenizer.json";
  std::error_code ec;
  if (!fs::exists(file, ec) && fs::exists(folder / "tokenizer.model", ec)) {
    return fail(
        error_code::not_found,
        "{}: not there, and tokenizer.model alone is not supported; load the checkpoint with transformers' "
        "AutoTokenizer and save it again to get tokenizer.json",
        file.string());
  }
  const auto document = read_json_file(file);
  if (!document) return fail(document.error());
  auto names = read_names(folder);
  if (!names) return fail(names.error());
  try {
    return tokenizer_ptr(std::make_shared<hf_tokenizer>(*document, std::move(*names)));
  } catch (const malformed& e) {
    return fail(error_code::bad_checkpoint, "{}: {}", file.string(), e.what());
  } catch (const cannot_tokenize& e) {  // its own added tokens
    return fail(error_code::bad_checkpoint, "{}: added_tokens: {}", file.string(), e.what());
  }
}

}  // namespace troupe::text
