#include "actors/tokenizer/pre_tokenizers.hpp"

#include <algorithm>

#include "actors/tokenizer/normalizers.hpp"
#include "actors/tokenizer/regex.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

// What happens to the text that a splitter's pattern matches.
enum class behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct part {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool is_match = false;
};

using finder = std::function<std::vector<part>(std::string_view)>;  // parts that cover the text

std::vector<part> cover(std::string_view text, const std::vector<span_match>& matches) {
  std::vector<part> parts;
  std::size_t at = 0;
  for (const auto& m : matches) {
    if (at != m.begin) parts.push_back({at, m.begin, false});
    parts.push_back({m.begin, m.end, true});
    at = m.end;
  }
  if (at != text.size()) parts.push_back({at, text.size(), false});
  return parts;
}

// Joins a match to the part before it (in the order given).
std::vector<part> merge_matches(const std::vector<part>& parts) {
  std::vector<part> out;
  bool previous_match = false;
  for (const auto& p : parts) {
    if (p.is_match && !previous_match && !out.empty()) {
      out.back() = {std::min(out.back().begin, p.begin), std::max(out.back().end, p.end), false};
    } else {
      out.push_back({p.begin, p.end, false});
    }
    previous_match = p.is_match;
  }
  return out;
}

std::vector<part> join_equal(const std::vector<part>& parts) {
  std::vector<part> out;
  bool previous_match = false;
  for (const auto& p : parts) {
    if (p.is_match == previous_match && !out.empty()) {
      out.back().end = p.end;
    } else {
      out.push_back({p.begin, p.end, false});
    }
    previous_match = p.is_match;
  }
  return out;
}

std::vector<part> apply(behavior how, std::vector<part> parts) {
  switch (how) {
    case behavior::removed:
      std::erase_if(parts, [](const part& p) { return p.is_match; });
      return parts;
    case behavior::isolated:
      return parts;
    case behavior::contiguous:
      return join_equal(parts);
    case behavior::merged_with_previous:
      return merge_matches(parts);
    case behavior::merged_with_next: {
      std::reverse(parts.begin(), parts.end());
      parts = merge_matches(parts);
      std::reverse(parts.begin(), parts.end());
      return parts;
    }
  }
  return parts;
}

pre_tokenizer splitter(finder find, behavior how) {
  return [find = std::move(find), how](std::vector<text_piece> pieces) {
    std::vector<text_piece> out;
    for (const auto& piece : pieces) {
      for (const part& p : apply(how, find(piece.text))) {
        if (p.begin == p.end) continue;
        out.push_back({piece.text.substr(p.begin, p.end - p.begin), piece.begins_text && p.begin == 0});
      }
    }
    return out;
  };
}

finder by_regex(const std::string& pattern) {
  auto compiled = regex::compile(pattern);
  if (!compiled) throw malformed(compiled.error().text);
  return [r = *compiled](std::string_view text) { return cover(text, r.find_all(text)); };
}

// Matches single code points.
finder by_character(std::function<bool(char32_t)> matches) {
  return [matches = std::move(matches)](std::string_view text) {
    std::vector<span_match> found;
    for (std::size_t at = 0; at < text.size();) {
      const auto c = utf8::read_valid(text.substr(at));
      if (matches(c.value)) found.push_back({at, at + c.bytes});
      at += c.bytes;
    }
    return cover(text, found);
  };
}

finder inverted(finder find) {
  return [find = std::move(find)](std::string_view text) {
    auto parts = find(text);
    for (auto& p : parts) p.is_match = !p.is_match;
    return parts;
  };
}

behavior read_behavior(const setting& s, std::string_view otherwise) {
  const std::string name = s.string_or("behavior", otherwise);
  if (name == "Removed") return behavior::removed;
  if (name == "Isolated") return behavior::isolated;
  if (name == "MergedWithPrevious") return behavior::merged_with_previous;
  if (name == "MergedWithNext") return behavior::merged_with_next;
  if (name == "Contiguous") return behavior::contiguous;
  s.unknown("behavior", name, {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
}

pre_tokenizer make_sequence(const setting& s) {
  std::vector<pre_tokenizer> steps;
  for (const auto& item : s.at("pretokenizers").items()) steps.push_back(make_pre_tokenizer(item));
  return [steps](std::vector<text_piece> pieces) {
    for (const auto& step : steps) {
      if (step) pieces = step(std::move(pieces));
    }
    return pieces;
  };
}

pre_tokenizer make_split(const setting& s) {
  const text_pattern pattern = make_pattern(s.at("pattern"));
  finder find = [pattern](std::string_view text) {
    std::vector<span_match> found;
    for (const auto& [begin, end] : pattern.find(text)) found.push_back({begin, end});
    return cover(text, found);
  };
  return splitter(s.boolean_or("invert", false) ? inverted(std::move(find)) : std::move(find),
                  read_behavior(s, "Isolated"));
}

pre_tokenizer make_byte_level(const setting& s) {
  pre_tokenizer split;
  if (s.boolean_or("use_regex", true)) {
    split =
        splitter(by_regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"),
                 behavior::isolated);
  }
  return [split, add_space = s.boolean_or("add_prefix_space", true)](std::vector<text_piece> pieces) {
    for (auto& p : pieces) {
      if (add_space && !p.text.empty() && !p.text.starts_with(' ')) p.text.insert(0, 1, ' ');
    }
    if (split) pieces = split(std::move(pieces));
    for (auto& p : pieces) p.text = bytes_to_letters(p.text);
    return pieces;
  };
}

pre_tokenizer make_metaspace(const setting& s) {
  const char32_t mark = s.has("replacement") ? s.at("replacement").character() : U'\u2581';
  std::string scheme = s.string_or("prepend_scheme", "always");
  if (!s.boolean_or("add_prefix_space", true)) scheme = "never";
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    s.unknown("prepend_scheme", scheme, {"always", "first", "never"});
  }
  std::string prefix;
  utf8::append(prefix, mark);
  pre_tokenizer split;
  if (s.boolean_or("split", true)) {
    split = splitter(by_character([mark](char32_t c) { return c == mark; }), behavior::merged_with_next);
  }
  return [split, prefix, scheme](std::vector<text_piece> pieces) {
    for (auto& p : pieces) {
      std::string marked;
      for (const char c : p.text) c == ' ' ? void(marked += prefix) : marked.push_back(c);
      const bool prepend = scheme == "always" || (scheme == "first" && p.begins_text);
      if (prepend && !marked.empty() && !marked.starts_with(prefix)) marked.insert(0, prefix);
      p.text = std::move(marked);
    }
    return split ? split(std::move(pieces)) : pieces;
  };
}

// GPT-4's pattern, with which published checkpoints keep the matches and remove what lies between them. It leaves nothing
// between: every letter, digit, white space and other code point is matched by an alternative of its own.
constexpr std::string_view matches_everything =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool split_drops_text(const setting& s) {
  if (s.string_or("behavior", "Isolated") != "Removed") return false;
  const setting pattern = s.at("pattern");
  return !(s.boolean_or("invert", false) && !pattern.is_string() && pattern.has("Regex") &&
           pattern.at("Regex").string() == matches_everything);
}

}  // namespace

bool drops_text(const setting& s) {
  if (s.is_null()) return false;
  const std::string type = s.string_or("type", "");
  if (type == "Split") return split_drops_text(s);
  if (type == "Punctuation") return s.string_or("behavior", "Isolated") == "Removed";
  if (type != "Sequence") return type != "ByteLevel" && type != "Digits" && type != "Metaspace";
  return std::ranges::any_of(s.at("pretokenizers").items(), drops_text);
}

bool is_byte_level(const setting& s) {
  if (s.is_null()) return false;
  if (s.string_or("type", "") == "Sequence")
    return std::ranges::any_of(s.at("pretokenizers").items(), is_byte_level);
  return s.string_or("type", "") == "ByteLevel";
}

pre_tokenizer make_pre_tokenizer(const setting& s) {
  if (s.is_null()) return {};
  const std::string type = s.type({"Sequence", "ByteLevel", "Split", "Digits", "Metaspace", "Whitespace",
                                   "WhitespaceSplit", "Punctuation", "CharDelimiterSplit"});
  if (type == "Sequence") return make_sequence(s);
  if (type == "ByteLevel") return make_byte_level(s);
  if (type == "Split") return make_split(s);
  if (type == "Metaspace") return make_metaspace(s);
  if (type == "Digits") {
    return splitter(by_character(&utf8::is_numeric),
                    s.boolean_or("individual_digits", false) ? behavior::isolated : behavior::contiguous);
  }
  if (type == "Whitespace")
    return splitter(inverted(by_regex(R"([\w\x{200C}\x{200D}]+|[^\w\s\x{200C}\x{200D}]+)")),
                    behavior::removed);
  if (type == "WhitespaceSplit") return splitter(by_character(&utf8::is_whitespace), behavior::removed);
  if (type == "Punctuation")
    return splitter(by_character(&utf8::is_punctuation), read_behavior(s, "Isolated"));
  const char32_t delimiter = s.at("delimiter").character();
  return splitter(by_character([delimiter](char32_t c) { return c == delimiter; }), behavior::removed);
}

}  // namespace troupe::text
