#include "actors/tokenizer/bpe.hpp"

#include <algorithm>
#include <limits>
#include <queue>

#include "actors/tokenizer/normalizers.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
}

}  // namespace

// A merge that was possible when it was put into the queue; the best rank comes first, then the leftmost.
struct bpe_model::candidate {
  std::uint32_t rank = 0;
  std::int32_t left = 0;
  std::int32_t id = 0;
  bool operator<(const candidate& other) const {  // std::priority_queue gives the greatest first
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

bpe_model::bpe_model(const setting& s) {
  if (s.json().is_object() && s.has("type")) s.type({"BPE"});  // very old files do not name it
  if (s.has("dropout") &&
      !(s.at("dropout").json().is_number() && s.at("dropout").json().to_number<double>() == 0)) {
    s.at("dropout").refuse("dropout is for training; expected null");
  }
  continuing_prefix_ = s.string_or("continuing_subword_prefix", "");
  word_suffix_ = s.string_or("end_of_word_suffix", "");
  fuse_unknown_ = s.boolean_or("fuse_unk", false);
  byte_fallback_ = s.boolean_or("byte_fallback", false);
  ignore_merges_ = s.boolean_or("ignore_merges", false);
  read_vocabulary(s.at("vocab"));
  read_merges(s.at("merges"));
  if (s.has("unk_token")) {
    const setting unk = s.at("unk_token");
    unknown_ = id_of(unk.string());
    if (!unknown_) unk.refuse(fmt::format("'{}' is not in the vocabulary", unk.string()));
  }
  for (unsigned b = 0; b < 256; ++b) byte_ids_[b] = id_of(fmt::format("<0x{:02X}>", b));
}

void bpe_model::read_vocabulary(const setting& s) {
  vocabulary_.reserve(s.object().size());
  for (const auto& [token, id] : s.object()) {
    const auto* number = id.if_int64();
    const bool fits = number != nullptr && *number >= 0 && *number < std::numeric_limits<std::int32_t>::max();
    const std::string name(token);
    // The path is written only for a complaint: there are 100,000 of these.
    vocabulary_.emplace(name, fits ? static_cast<std::int32_t>(*number)
                                   : setting(id, fmt::format("{}['{}']", s.path(), name)).token_id());
  }
}

void bpe_model::read_merges(const setting& s) {
  if (!s.json().is_array()) s.items();  // refuses
  std::uint32_t rank = 0;
  merges_.reserve(s.json().get_array().size());
  for (const auto& m : s.json().get_array()) {
    const auto here = [&] { return setting(m, fmt::format("{}[{}]", s.path(), rank)); };
    if (m.is_string()) {
      const std::string_view text = m.get_string();
      const auto space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        here().refuse(fmt::format("expected two tokens with one space between them, found '{}'", text));
      }
      add_merge(s, std::string(text.substr(0, space)), std::string(text.substr(space + 1)), rank);
    } else {
      const auto both = here().items();
      if (both.size() != 2) here().refuse(fmt::format("expected two tokens, found {}", both.size()));
      add_merge(s, both[0].string(), both[1].string(), rank);
    }
    ++rank;
  }
}

void bpe_model::add_merge(const setting& s, const std::string& left, const std::string& right,
                          std::uint32_t rank) {
  const auto must = [&](const std::string& token) {
    const auto id = id_of(token);
    if (!id) throw malformed(fmt::format("{}[{}]: '{}' is not in the vocabulary", s.path(), rank, token));
    return *id;
  };
  const std::string tail =
      right.starts_with(continuing_prefix_) ? right.substr(continuing_prefix_.size()) : right;
  const std::int32_t left_id = must(left);
  const std::int32_t right_id = must(right);
  merges_.insert_or_assign(pair_key(left_id, right_id), merge{rank, must(left + tail)});
}

std::optional<std::int32_t> bpe_model::id_of(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

bool bpe_model::keeps_text(bool byte_level) const {
  const auto here = [](const auto& id) { return id.has_value(); };
  if (byte_fallback_ && std::all_of(std::begin(byte_ids_), std::end(byte_ids_), here)) return true;
  if (unknown_ && !fuse_unknown_) return true;
  if (!byte_level || !continuing_prefix_.empty() || !word_suffix_.empty()) return false;
  for (int b = 0; b < 256; ++b)
    if (!id_of(bytes_to_letters(std::string(1, static_cast<char>(b))))) return false;
  return true;
}

const bpe_model::merge* bpe_model::find_merge(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<bpe_model::symbol> bpe_model::smallest_parts(std::string_view piece) const {
  std::vector<symbol> symbols;
  symbols.reserve(piece.size());
  const auto add = [&](std::int32_t id) { symbols.push_back({id}); };
  bool pending_unknown = false;
  std::string part;
  for (std::size_t at = 0; at < piece.size();) {
    const std::string_view letter = piece.substr(at, utf8::read_valid(piece.substr(at)).bytes);
    part.assign(at > 0 ? continuing_prefix_ : std::string()).append(letter);
    at += letter.size();
    if (at == piece.size()) part.append(word_suffix_);
    if (const auto id = id_of(part)) {
      if (pending_unknown) add(*unknown_);
      pending_unknown = false;
      add(*id);
      continue;
    }
    bool all_bytes = byte_fallback_;
    for (const char b : part) all_bytes = all_bytes && byte_ids_[static_cast<unsigned char>(b)].has_value();
    if (all_bytes) {
      for (const char b : part) add(*byte_ids_[static_cast<unsigned char>(b)]);
    } else if (unknown_) {
      if (pending_unknown && !fuse_unknown_) add(*unknown_);
      pending_unknown = true;
    }
  }
  if (pending_unknown) add(*unknown_);
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<std::int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i + 1) : -1;
  }
  return symbols;
}

void bpe_model::merge_all(std::vector<symbol>& symbols) const {
  std::vector<candidate> storage;
  storage.reserve(symbols.size());
  std::priority_queue<candidate> queue({}, std::move(storage));
  const auto at = [&](std::int32_t i) -> symbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto offer = [&](std::int32_t left, std::int32_t right) {
    if (left < 0 || right < 0) return;
    if (const merge* m = find_merge(at(left).id, at(right).id)) queue.push({m->rank, left, m->id});
  };
  for (const symbol& s : symbols) {
    if (s.next >= 0) offer(s.next - 1, s.next);
  }
  while (!queue.empty()) {
    const candidate best = queue.top();
    queue.pop();
    symbol& left = at(best.left);
    if (left.gone || left.next < 0) continue;
    symbol& right = at(left.next);
    const merge* m = find_merge(left.id, right.id);
    if (m == nullptr || m->id != best.id) continue;  // the pair has changed since
    left.id = best.id;
    left.next = right.next;
    right.gone = true;
    if (left.next >= 0) at(left.next).previous = best.left;
    offer(left.previous, best.left);
    offer(best.left, left.next);
  }
}

void bpe_model::encode(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (piece.empty()) return;
  if (ignore_merges_) {
    if (const auto whole = id_of(piece)) {
      ids.push_back(*whole);
      return;
    }
  }
  auto symbols = smallest_parts(piece);
  merge_all(symbols);
  for (const symbol& s : symbols) {
    if (!s.gone) ids.push_back(s.id);
  }
}

}  // namespace troupe::text
