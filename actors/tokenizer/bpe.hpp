// Byte-pair encoding: a piece of text becomes its smallest parts, and the best-ranked neighbours are merged
// until no merge applies. Both published styles: SentencePiece's with byte fallback, and byte-level.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/tokenizer/json_reader.hpp"

namespace troupe::text {

struct string_hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const noexcept { return std::hash<std::string_view>{}(s); }
};
using vocabulary = boost::unordered_flat_map<std::string, std::int32_t, string_hash, std::equal_to<>>;

// Immutable; any thread.
class bpe_model {
 public:
  // "model" of tokenizer.json. Throws malformed.
  explicit bpe_model(const setting& s);

  // Appends the ids of one piece. O(n log n).
  void encode(std::string_view piece, std::vector<std::int32_t>& ids) const;

  std::optional<std::int32_t> id_of(std::string_view token) const;
  const vocabulary& tokens() const { return vocabulary_; }
  bool has_byte_fallback() const { return byte_fallback_; }

  // Each code point gets a token of its own or becomes part of one; none is dropped, and no token stands for several
  // unknown ones. `byte_level`: pieces are written in the 256 stand-ins of bytes.
  bool keeps_text(bool byte_level) const;

 private:
  struct merge {
    std::uint32_t rank = 0;
    std::int32_t id = 0;
  };
  struct symbol {
    std::int32_t id = 0;
    std::int32_t previous = -1;
    std::int32_t next = -1;
    bool gone = false;
  };
  struct candidate;

  void read_vocabulary(const setting& s);
  void read_merges(const setting& s);
  void add_merge(const setting& s, const std::string& left, const std::string& right, std::uint32_t rank);
  std::vector<symbol> smallest_parts(std::string_view piece) const;
  void merge_all(std::vector<symbol>& symbols) const;
  const merge* find_merge(std::int32_t left, std::int32_t right) const;

  vocabulary vocabulary_;
  boost::unordered_flat_map<std::uint64_t, merge> merges_;
  std::optional<std::int32_t> byte_ids_[256];
  std::optional<std::int32_t> unknown_;
  std::string continuing_prefix_;
  std::string word_suffix_;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace troupe::text
