#include "actors/cache_manager/block_pool.hpp"

#include <algorithm>
#include <cassert>

namespace troupe {

namespace {

std::uint64_t mix(std::uint64_t h) {
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9ULL;
  h ^= h >> 27;
  h *= 0x94d049bb133111ebULL;
  return h ^ (h >> 31);
}

std::uint64_t chain_hash(model_id model, std::uint64_t parent, std::span<const std::int32_t> tokens) {
  std::uint64_t h = mix(parent * 0x9e3779b97f4a7c15ULL + model.value + 1);
  for (std::int32_t token : tokens) h = mix(h ^ static_cast<std::uint32_t>(token));
  return h;
}

}  // namespace

block_pool::block_pool(const block_pool_options& options)
    : prefix_caching_(options.prefix_caching), blocks_(options.blocks) {
  forget();
}

void block_pool::set_block_tokens(model_id model, std::uint32_t block_tokens) {
  assert(block_tokens > 0);
  std::uint32_t& known = block_tokens_[model];
  if (known == block_tokens) return;
  known = block_tokens;
  drop_prefixes(model);
}

// Blocks that nobody holds become free ones.
void block_pool::drop_prefixes(model_id model) {
  for (block& b : blocks_) {
    if (b.entry == 0 || b.model != model) continue;
    b.was_prefix = b.holders > 0;
    if (b.holders == 0) {
      evictable_.erase(b.position);
      free_.push_back(number_of(b));
    }
    drop_entry(b);
  }
}

std::uint32_t block_pool::forget_model(model_id model) {
  const auto empty_before = free_.size();
  release_model(model);
  drop_prefixes(model);
  block_tokens_.erase(model);
  return static_cast<std::uint32_t>(free_.size() - empty_before);
}

const block_pool::block* block_pool::find(model_id model, std::uint64_t parent,
                                          std::span<const std::int32_t> tokens) const {
  auto [first, last] = by_hash_.equal_range(chain_hash(model, parent, tokens));
  for (; first != last; ++first) {
    const block& b = blocks_[first->second.value];
    if (b.parent == parent && b.model == model && std::ranges::equal(b.tokens, tokens)) return &b;
  }
  return nullptr;
}

std::vector<block_id> block_pool::match(model_id model, std::span<const std::int32_t> prefix,
                                        std::size_t most) const {
  std::vector<block_id> matched;
  const std::size_t size = block_tokens_.at(model);
  if (!prefix_caching_ || prefix.empty()) return matched;
  const std::size_t whole =
      std::min(most, (prefix.size() - 1) / size);  // one token must remain to be computed
  std::uint64_t parent = 0;
  for (std::size_t i = 0; i < whole; ++i) {
    const block* b = find(model, parent, prefix.subspan(i * size, size));
    if (b == nullptr) break;
    matched.push_back(number_of(*b));
    parent = b->entry;
  }
  return matched;
}

bool block_pool::lease(sequence_key key, std::uint32_t tokens, std::span<const std::int32_t> prefix,
                       std::vector<granted_block>& out) {
  if (!knows(key.model)) return false;
  const std::uint32_t size = block_tokens_.at(key.model);
  const std::size_t wanted = (std::size_t{tokens} + size - 1) / size;
  auto found = held_.find(key);
  const std::size_t had = found == held_.end() ? 0 : found->second.size();
  if (wanted <= had) return true;

  std::vector<block_id> matched;
  if (found == held_.end()) matched = match(key.model, prefix, wanted);
  const auto idle = std::ranges::count_if(matched, [&](block_id b) { return at(b).holders == 0; });
  if (wanted - had - matched.size() > free_blocks() - static_cast<std::size_t>(idle)) return false;

  std::vector<block_id>& table = held_[key];
  table.reserve(wanted);
  for (block_id b : matched) {
    hold(b);
    table.push_back(b);
    out.push_back({b, true});
  }
  while (table.size() < wanted) {
    const block_id b = take();
    table.push_back(b);
    out.push_back({b, false});
  }
  return true;
}

void block_pool::hold(block_id b) {
  block& x = at(b);
  if (x.holders++ == 0) evictable_.erase(x.position);
}

// An empty block for one holder: a free one, else the least recently used prefix gives way. The caller knows
// that there is one.
block_id block_pool::take() {
  block_id b;
  if (!free_.empty()) {
    b = free_.back();
    free_.pop_back();
  } else {
    b = evictable_.front();
    evictable_.pop_front();
    drop_entry(at(b));
  }
  at(b).holders = 1;
  at(b).was_prefix = false;
  return b;
}

void block_pool::drop_entry(block& b) {
  auto [first, last] = by_hash_.equal_range(b.hash);
  const block_id number = number_of(b);
  by_hash_.erase(std::find_if(first, last, [&](const auto& pair) { return pair.second == number; }));
  b.entry = 0;
  b.tokens.clear();
}

void block_pool::let_go(block_id b) {
  block& x = at(b);
  assert(x.holders > 0);
  if (--x.holders > 0) return;
  if (x.entry != 0)
    x.position = evictable_.insert(evictable_.end(), b);
  else
    free_.push_back(b);
}

void block_pool::release(sequence_key key, std::span<const std::int32_t> computed) {
  auto found = held_.find(key);
  if (found == held_.end()) return;
  const std::vector<block_id> table = std::move(found->second);
  held_.erase(found);
  std::vector<block_id> twins;
  if (prefix_caching_ && knows(key.model)) twins = keep(key.model, table, computed);
  // Last block first: a prefix is then never older than what continues it, so it is never evicted before.
  for (auto b = table.rbegin(); b != table.rend(); ++b) let_go(*b);
  for (auto b = twins.rbegin(); b != twins.rend(); ++b)
    evictable_.splice(evictable_.end(), evictable_, at(*b).position);
}

// Enters the whole blocks of `computed` as cached prefix, except those that another sequence has entered: of
// these the ones that nobody holds are returned; they count as used now.
std::vector<block_id> block_pool::keep(model_id model, std::span<const block_id> held,
                                       std::span<const std::int32_t> computed) {
  const std::size_t size = block_tokens_.at(model);
  const std::size_t whole = std::min(held.size(), computed.size() / size);
  std::vector<block_id> twins;
  std::uint64_t parent = 0;
  for (std::size_t i = 0; i < whole; ++i) {
    const auto tokens = computed.subspan(i * size, size);
    const block* known = find(model, parent, tokens);
    if (known == nullptr) {
      block& b = at(held[i]);
      if (b.entry != 0) break;  // it already stands for other tokens
      b.entry = next_entry_++;
      b.parent = parent;
      b.hash = chain_hash(model, parent, tokens);
      b.model = model;
      b.tokens.assign(tokens.begin(), tokens.end());
      by_hash_.emplace(b.hash, held[i]);
      known = &b;
    } else if (known->holders == 0) {
      twins.push_back(number_of(*known));
    }
    parent = known->entry;
  }
  return twins;
}

void block_pool::release_model(model_id model) {
  for (auto i = held_.begin(); i != held_.end();) {
    if (i->first.model != model) {
      ++i;
      continue;
    }
    for (auto b = i->second.rbegin(); b != i->second.rend(); ++b) let_go(*b);
    i = held_.erase(i);
  }
}

void block_pool::forget() {
  held_.clear();
  evictable_.clear();
  by_hash_.clear();
  free_.clear();
  for (std::uint32_t i = blocks(); i-- > 0;) {
    blocks_[i].holders = 0;
    blocks_[i].entry = 0;
    blocks_[i].tokens.clear();
    free_.push_back({i});
  }
}

std::span<const block_id> block_pool::held(sequence_key key) const {
  auto found = held_.find(key);
  if (found == held_.end()) return {};
  return found->second;
}

const char* block_pool::inconsistency() const {
  std::vector<std::uint32_t> holders(blocks_.size());
  for (const auto& [key, table] : held_)
    for (block_id b : table) ++holders[b.value];
  std::size_t entries = 0;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const block& b = blocks_[i];
    if (b.holders != holders[i]) return "a block counts other holders than it has";
    if (b.holders > 1 && b.entry == 0 && !b.was_prefix) return "a block without a prefix has two holders";
    if (b.entry != 0) ++entries;
  }
  if (entries != by_hash_.size()) return "the prefix index has other entries than the blocks";
  std::vector<bool> seen(blocks_.size());
  for (block_id b : free_) {
    if (seen[b.value] || holders[b.value] > 0 || blocks_[b.value].entry != 0) return "a free block is in use";
    seen[b.value] = true;
  }
  for (block_id b : evictable_) {
    if (seen[b.value] || holders[b.value] > 0 || blocks_[b.value].entry == 0)
      return "an evictable block is in use";
    seen[b.value] = true;
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i)
    if (!seen[i] && holders[i] == 0) return "a block is lost";
  return nullptr;
}

}  // namespace troupe
