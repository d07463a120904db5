// Owns all cache blocks of one device; nobody else hands them out.
//   hears    ModelLoaded  from scheduler and host  how many tokens a block of the model holds; a newer pool: see below
//            Lease        from scheduler           answers LeaseGranted; what does not fit is listed there as refused
//            Release      from scheduler           no answer; unknown sequences are ignored
//            UnloadModel  from deployer            forgets the model, with its prefixes; answers ModelUnloaded
//            status       from gateway             answers CacheStatus
//            peer         from supervisor          ignored
//   waits    never; each handler is O(blocks and tokens named)
//   wiped    K/V die with their executor. That reaches this actor as a newer pool number, in whatever message comes
//            first (an announcement could arrive behind the first lease of the new pool and would wipe that, too):
//            every sequence and cached prefix is forgotten, and leases that still name an older pool are refused
//   peers    what a scheduler that has ended held is taken back, when its end or the first lease of its successor is heard
//   restart  with all blocks free, under a greater epoch; the schedulers lease again for what still runs
#pragma once

#include <caf/actor_system.hpp>
#include <cstdint>

#include "actors/types.hpp"

namespace troupe {

struct cache_manager_options {
  std::uint32_t blocks = 0;
  std::uint64_t block_bytes = 0;
  bool prefix_caching = true;
};

cache_manager_actor spawn_cache_manager(caf::actor_system& system, const cache_manager_options& options);

}  // namespace troupe
