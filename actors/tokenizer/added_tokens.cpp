#include "actors/tokenizer/added_tokens.hpp"

#include <algorithm>

#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

std::uint64_t edge(std::uint32_t node, char byte) {
  return (std::uint64_t{node} << 8) | static_cast<unsigned char>(byte);
}

// Byte offset of the last code point. `text` must not be empty.
std::size_t last_offset(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

char32_t last_code_point(std::string_view text) {
  return utf8::read_valid(text.substr(last_offset(text))).value;
}

bool touches_word(std::string_view before, std::string_view after) {
  return (!before.empty() && utf8::is_word(last_code_point(before))) ||
         (!after.empty() && utf8::is_word(utf8::read_valid(after).value));
}

// Where the white space at the end of `text` begins.
std::size_t trailing_space(std::string_view text) {
  while (!text.empty() && utf8::is_whitespace(last_code_point(text)))
    text = text.substr(0, last_offset(text));
  return text.size();
}

std::size_t leading_space(std::string_view text) {
  std::size_t n = 0;
  while (n < text.size()) {
    const auto c = utf8::read_valid(text.substr(n));
    if (!utf8::is_whitespace(c.value)) break;
    n += c.bytes;
  }
  return n;
}

}  // namespace

void added_token_finder::add(const added_token& token, std::string_view spelling) {
  if (spelling.empty()) return;
  std::uint32_t node = 0;
  for (const char byte : spelling) {
    const auto [it, fresh] =
        edges_.try_emplace(edge(node, byte), static_cast<std::uint32_t>(token_of_node_.size()));
    if (fresh) token_of_node_.push_back(-1);
    node = it->second;
  }
  if (token_of_node_[node] >= 0) return;  // the first of two alike wins
  token_of_node_[node] = static_cast<std::int64_t>(tokens_.size());
  tokens_.push_back(token);
  first_.set(static_cast<unsigned char>(spelling[0]));
}

added_token_finder::hit added_token_finder::longest_at(std::string_view text, std::size_t at) const {
  hit best;
  std::uint32_t node = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    const auto next = edges_.find(edge(node, text[i]));
    if (next == edges_.end()) break;
    node = next->second;
    if (token_of_node_[node] >= 0) best = {i + 1 - at, static_cast<std::size_t>(token_of_node_[node])};
  }
  return best;
}

std::vector<added_span> added_token_finder::split(std::string_view text) const {
  std::vector<added_span> spans;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    const hit found = first_.test(static_cast<unsigned char>(text[at])) ? longest_at(text, at) : hit{};
    if (found.length == 0) {
      ++at;
      continue;
    }
    const added_token& token = tokens_[found.token];
    std::size_t begin = at;
    std::size_t end = at + found.length;
    at = end;
    if (token.single_word && touches_word(text.substr(0, begin), text.substr(end))) continue;
    if (token.lstrip) begin = std::max(trailing_space(text.substr(0, begin)), done);
    if (token.rstrip) end += leading_space(text.substr(end));
    if (done < begin) spans.push_back({done, begin, -1});
    spans.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) spans.push_back({done, text.size(), -1});
  return spans;
}

}  // namespace troupe::text
