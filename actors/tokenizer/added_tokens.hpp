// "added_tokens" of tokenizer.json: tokens that are recognised in the text itself, before anything else cuts
// it.
#pragma once

#include <array>
#include <bitset>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::text {

struct added_token {
  std::int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // only where no letter or digit touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for after normalization, in its own normalized spelling
};

// A stretch of text: a token, or (id -1) text between tokens.
struct added_span {
  std::size_t begin = 0;  // bytes
  std::size_t end = 0;
  std::int32_t id = -1;
};

// Finds tokens from left to right, the longest where several begin. Immutable once filled; any thread.
class added_token_finder {
 public:
  // `spelling` is what is looked for. Empty spellings are never found.
  void add(const added_token& token, std::string_view spelling);

  // Spans that cover `text` from left to right (a token with rstrip may reach into the next one's white
  // space).
  std::vector<added_span> split(std::string_view text) const;

  bool empty() const { return tokens_.empty(); }

 private:
  struct hit {
    std::size_t length = 0;
    std::size_t token = 0;
  };
  hit longest_at(std::string_view text, std::size_t at) const;

  // A trie: (node, byte) -> node. Node 0 is the root.
  boost::unordered_flat_map<std::uint64_t, std::uint32_t> edges_;
  std::vector<std::int64_t> token_of_node_ = {-1};
  std::bitset<256> first_;
  std::vector<added_token> tokens_;
};

}  // namespace troupe::text
