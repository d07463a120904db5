#define PCRE2_CODE_UNIT_WIDTH 8
#include "actors/tokenizer/regex.hpp"

#include <pcre2.h>

#include "actors/tokenizer/tokenizer.hpp"

namespace troupe::text {
namespace {

constexpr std::string_view word_set = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

// `in_class`: the escape stands between square brackets.
std::string translate_escape(char c, bool in_class) {
  switch (c) {
    case 's':
      return R"(\p{White_Space})";
    case 'S':
      return R"(\P{White_Space})";
    case 'w':
      return in_class ? std::string(word_set) : "[" + std::string(word_set) + "]";
    case 'W':
      return in_class ? R"(\W)" : "[^" + std::string(word_set) + "]";
    case 'h':
      return in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";
    case 'H':
      return in_class ? R"(\H)" : "[^0-9a-fA-F]";
    default:
      return {'\\', c};
  }
}

std::string reason_of(int code) {
  PCRE2_UCHAR reason[160] = {};
  pcre2_get_error_message(code, reason, sizeof reason);
  return reinterpret_cast<const char*>(reason);
}

const pcre2_code* code_of(const std::shared_ptr<const void>& p) {
  return static_cast<const pcre2_code*>(p.get());
}

}  // namespace

result<std::string> to_pcre(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  std::size_t class_begin = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\' && i + 1 < pattern.size()) {
      out += translate_escape(next, in_class);
      ++i;
    } else if (!in_class && c == '[') {
      in_class = true;
      out += c;
      if (next == '^') out += pattern[++i];
      class_begin = i + 1;
    } else if (in_class && c == '[' && next == ':') {
      const auto end = pattern.find(":]", i + 2);
      if (end == std::string_view::npos) {
        return fail(error_code::bad_checkpoint, "regular expression '{}': unfinished [: at byte {}", pattern,
                    i);
      }
      out.append(pattern.substr(i, end + 2 - i));
      i = end + 1;
    } else if (in_class && (c == '[' || (c == '&' && next == '&'))) {
      return fail(
          error_code::bad_checkpoint,
          "regular expression '{}': nested or intersected character classes are not supported (byte {})",
          pattern, i);
    } else if (in_class && c == ']' && i > class_begin) {
      in_class = false;
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

result<regex> regex::compile(std::string_view pattern) {
  auto translated = to_pcre(pattern);
  if (!translated) return fail(translated.error());
  const std::string text = *std::move(translated);
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE place = 0;
  // MULTILINE: in Ruby's syntax ^ and $ always mean line ends.
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &place, context.get());
  if (compiled == nullptr) {
    return fail(error_code::bad_checkpoint, "regular expression '{}': {} (byte {})", pattern, reason_of(code),
                place);
  }
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // where there is no JIT the interpreter runs
  regex r;
  r.code_ = std::shared_ptr<const void>(
      compiled, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
  return r;
}

std::vector<span_match> regex::find_all(std::string_view text) const {
  std::vector<span_match> found;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code_of(code_), nullptr), &pcre2_match_data_free);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::size_t at = 0;
  std::size_t last_end = std::string_view::npos;  // an empty match may not touch the match before it
  while (at <= text.size()) {
    // The machine code has a small stack of its own; the interpreter takes memory as it needs it.
    int rc = pcre2_match(code_of(code_), subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.get(), nullptr);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code_of(code_), subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data.get(), nullptr);
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) throw cannot_tokenize(reason_of(rc), at);
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const bool empty = ends[0] == ends[1];
    if (!empty || ends[0] != last_end) found.push_back({ends[0], ends[1]});
    last_end = ends[1];
    at = ends[1];
    if (empty) {  // go on one code point further
      ++at;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) ++at;
    }
  }
  return found;
}

std::vector<span_match> find_all(std::string_view text, std::string_view pattern) {
  std::vector<span_match> found;
  if (pattern.empty()) return found;
  for (std::size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, at)) {
    found.push_back({at, at + pattern.size()});
    at += pattern.size();
  }
  return found;
}

}  // namespace troupe::text
