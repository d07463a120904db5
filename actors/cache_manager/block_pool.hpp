// The cache blocks of one device, shared by all its models: who holds which, and which still hold a reusable prefix.
//
// A block is free, held by sequences (several only if it is a cached prefix), or evictable: held by nobody, but its K/V
// are kept under the tokens that they were computed from until the room is needed.
// A cached block is found by (model, the cached block before it, its own token ids). The hash only finds candidates; the
// ids decide. Plain class: no clock, no threads; everything is O(blocks or tokens named).
#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernel/base/ids.hpp"

namespace troupe {

struct block_pool_options {
  std::uint32_t blocks = 0;
  bool prefix_caching = true;
};

// A sequence of one model's scheduler; schedulers of different models may use the same numbers.
struct sequence_key {
  model_id model;
  sequence_id sequence;
  friend auto operator<=>(const sequence_key&, const sequence_key&) = default;
};

struct granted_block {
  block_id block;
  bool cached = false;  // its K/V are already there
};

class block_pool {
 public:
  explicit block_pool(const block_pool_options& options);

  // How many tokens one block holds for a model. Needed before its first lease. A change forgets the model's cached
  // prefixes.
  void set_block_tokens(model_id model, std::uint32_t block_tokens);
  bool knows(model_id model) const { return block_tokens_.contains(model); }

  // Gives a sequence the blocks for positions [0, tokens) that it lacks, appended to `out` in order of position.
  // `prefix` counts only in a sequence's first lease: its leading tokens; cached blocks are found for whole blocks of
  // it, never for all of it. False: no room, or the model is unknown; then nothing has changed.
  bool lease(sequence_key key, std::uint32_t tokens, std::span<const std::int32_t> prefix,
             std::vector<granted_block>& out);

  // Takes all blocks of a sequence back. `computed`: the tokens whose K/V they hold; whole blocks of it stay as cached
  // prefix.
  void release(sequence_key key, std::span<const std::int32_t> computed);

  void release_model(model_id model);  // all its sequences; keeps nothing of what they held alone
  // The model is gone: its sequences, its cached prefixes and its tokens per block. Answers how many blocks that emptied.
  std::uint32_t forget_model(model_id model);
  void drop_prefixes(model_id model);  // another Program runs it: what is cached of it is of no use any more
  void forget();                       // every sequence and every cached prefix: the K/V are gone

  std::uint32_t blocks() const { return static_cast<std::uint32_t>(blocks_.size()); }
  std::uint32_t free_blocks() const { return static_cast<std::uint32_t>(free_.size() + evictable_.size()); }
  std::uint32_t cached_blocks() const { return static_cast<std::uint32_t>(evictable_.size()); }
  std::uint32_t sequences() const { return static_cast<std::uint32_t>(held_.size()); }
  std::span<const block_id> held(sequence_key key) const;

  // Empty, or what is wrong with the books. For tests.
  const char* inconsistency() const;

 private:
  struct block {
    std::uint32_t holders = 0;
    bool was_prefix = false;   // dropped while it was held: its holders may be several all the same
    std::uint64_t entry = 0;   // number of the cached prefix it holds, never reused; 0 = none
    std::uint64_t parent = 0;  // entry of the block before it; 0 = it is a first block
    std::uint64_t hash = 0;
    model_id model;
    std::vector<std::int32_t> tokens;        // of the cached prefix
    std::list<block_id>::iterator position;  // in evictable_, if holders == 0 and entry != 0
  };

  block& at(block_id b) { return blocks_[b.value]; }
  const block* find(model_id model, std::uint64_t parent, std::span<const std::int32_t> tokens) const;
  block_id number_of(const block& b) const { return {static_cast<std::uint32_t>(&b - blocks_.data())}; }
  std::vector<block_id> match(model_id model, std::span<const std::int32_t> prefix, std::size_t most) const;
  std::vector<block_id> keep(model_id model, std::span<const block_id> held,
                             std::span<const std::int32_t> computed);
  void hold(block_id b);
  void let_go(block_id b);
  void drop_entry(block& b);
  block_id take();

  bool prefix_caching_;
  std::vector<block> blocks_;
  std::vector<block_id> free_;     // without contents
  std::list<block_id> evictable_;  // front: least recently used
  std::unordered_multimap<std::uint64_t, block_id> by_hash_;
  std::map<sequence_key, std::vector<block_id>> held_;
  std::unordered_map<model_id, std::uint32_t> block_tokens_;
  std::uint64_t next_entry_ = 1;
};

}  // namespace troupe
