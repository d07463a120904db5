#include "actors/cache_manager/cache_manager.hpp"

#include <algorithm>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <span>
#include <unordered_map>
#include <vector>

#include "actors/cache_manager/block_pool.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

// The scheduler that leases for a model.
struct tenant {
  std::uint64_t incarnation = 0;
  caf::actor_addr address;
};

struct cache_manager_state {
  static inline const char* name = "cache_manager";
  cache_manager_options options;
  block_pool pool{{}};
  std::uint64_t epoch = 0;
  std::uint64_t newest_pool = 0;
  std::uint32_t block_tokens = 0;  // of the model that was loaded last
  std::unordered_map<std::uint32_t, tenant> tenants;

  // Kept for their memory.
  std::vector<granted_block> granted;
  std::vector<wire::BlockGrant> grants;
  std::vector<std::uint64_t> refused;

  void adopt(std::uint64_t number);
  void serve(const wire::Lease& lease);
  message<wire::LeaseGranted> answer() const;
};

template <class Vector>
std::span<const std::int32_t> span_of(const Vector* v) {
  if (v == nullptr) return {};
  return {v->data(), v->size()};
}

// A newer pool: the executor was restarted and all K/V are gone.
void cache_manager_state::adopt(std::uint64_t number) {
  if (number <= newest_pool) return;
  if (newest_pool != 0)
    log::info("cache_manager", "cache contents are gone with their executor",
              {{"sequences", pool.sequences()}});
  newest_pool = number;
  pool.forget();
}

void cache_manager_state::serve(const wire::Lease& lease) {
  grants.clear();
  refused.clear();
  const model_id model{lease.model()};
  bool full = lease.pool() != newest_pool;
  for (const wire::LeaseItem* item : *lease.items()) {
    granted.clear();
    const sequence_key key{model, {item->sequence()}};
    if (full || !pool.lease(key, item->tokens(), span_of(item->prefix_ids()), granted)) {
      full = true;
      refused.push_back(item->sequence());
    }
    for (const granted_block& g : granted)
      grants.emplace_back(item->sequence(), g.block.value, static_cast<std::uint8_t>(g.cached ? 1 : 0));
  }
}

message<wire::LeaseGranted> cache_manager_state::answer() const {
  flatbuffers::FlatBufferBuilder builder(256 + 16 * grants.size() + 8 * refused.size());
  const auto g = builder.CreateVectorOfStructs(grants);
  const auto r = refused.empty() ? 0 : builder.CreateVector(refused);
  return message<wire::LeaseGranted>::finish(
      builder, wire::CreateLeaseGranted(builder, g, r, pool.free_blocks(), epoch));
}

using cache_manager_pointer = cache_manager_actor::stateful_pointer<cache_manager_state>;

// Another incarnation of the model's scheduler: what the former one held is taken back. What is cached goes too: the former
// one may have had it computed by a version on probation, of which this one knows nothing.
void meet(cache_manager_pointer self, const wire::Lease& lease) {
  tenant& t = self->state.tenants[lease.model()];
  if (t.incarnation == lease.incarnation()) return;
  self->state.pool.release_model({lease.model()});
  self->state.pool.drop_prefixes({lease.model()});
  t.incarnation = lease.incarnation();
  const auto& asker = self->current_sender();
  t.address = caf::actor_cast<caf::actor_addr>(asker);
  if (asker) self->monitor(t.address);
}

void bury(cache_manager_pointer self, const caf::actor_addr& gone) {
  for (auto& [model, t] : self->state.tenants)
    if (t.address == gone) {
      self->state.pool.release_model({model});
      t = {};
    }
}

cache_manager_actor::behavior_type cache_manager(cache_manager_pointer self, cache_manager_options options) {
  cache_manager_state& state = self->state;
  state.options = options;
  state.pool = block_pool({.blocks = options.blocks, .prefix_caching = options.prefix_caching});
  state.epoch = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                           std::chrono::nanoseconds(1));
  self->set_down_handler([self](const caf::down_msg& down) { bury(self, down.source); });
  return {
      [](peer_atom, const std::string&, const caf::strong_actor_ptr&) {},
      [self](const message<wire::ModelLoaded>& loaded) {
        self->state.adopt(loaded->pool());
        self->state.block_tokens = loaded->block_tokens();
        self->state.pool.set_block_tokens({loaded->model()}, loaded->block_tokens());
      },
      [self](const message<wire::Lease>& lease) {
        self->state.adopt(lease->pool());
        meet(self, *lease);
        if (lease->block_tokens() != 0)
          self->state.pool.set_block_tokens({lease->model()}, lease->block_tokens());
        self->state.serve(*lease);
        return self->state.answer();
      },
      [self](const message<wire::Release>& release) {
        for (const wire::ReleaseItem* item : *release->items())
          self->state.pool.release({{release->model()}, {item->sequence()}}, span_of(item->computed_ids()));
        if (release->forget_prefixes()) self->state.pool.drop_prefixes({release->model()});
      },
      [self](const message<wire::UnloadModel>& gone) {
        cache_manager_state& s = self->state;
        const std::uint64_t freed = s.pool.forget_model({gone->model()}) * s.options.block_bytes;
        s.tenants.erase(gone->model());
        flatbuffers::FlatBufferBuilder builder(64);
        return message<wire::ModelUnloaded>::finish(builder,
                                                    wire::CreateModelUnloaded(builder, gone->model(), freed));
      },
      [self](status_atom) {
        const cache_manager_state& s = self->state;
        flatbuffers::FlatBufferBuilder builder(128);
        return message<wire::CacheStatus>::finish(
            builder, wire::CreateCacheStatus(builder, s.pool.blocks(), s.pool.free_blocks(),
                                             s.pool.cached_blocks(), s.options.block_bytes, s.block_tokens));
      }};
}

}  // namespace

cache_manager_actor spawn_cache_manager(caf::actor_system& system, const cache_manager_options& options) {
  return system.spawn(cache_manager, options);
}

}  // namespace troupe
