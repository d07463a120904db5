// One sequence of the scheduler, from Submit to its end. Positions count tokens from 0:
//
//   tokens    known ids: prompt, then what was sampled        [0, tokens.size())
//   leased    positions that its cache blocks can hold
//   planned   positions whose computation was planned         planned <= leased
//   computed  positions whose computation was reported        computed <= planned
//
// A decode in flight will add a token that is not known yet; `sampling` counts these.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "kernel/base/ids.hpp"
#include "kernel/frame/message.hpp"
#include "troupe/schemas/actors_generated.h"

namespace troupe {

struct sequence {
  message<wire::Submit> submit;
  std::uint32_t destination = 0;  // who wants its tokens
  std::uint64_t arrival = 0;      // order of arrival: the greater the newer
  sequence_id id;  // as the executor and the cache-manager know it; a new one after each requeue

  std::vector<std::int32_t> tokens;
  std::uint32_t leased = 0;
  std::uint32_t planned = 0;
  std::uint32_t computed = 0;
  std::uint32_t sampling = 0;    // tokens that plans in flight will sample
  std::uint32_t max_tokens = 0;  // generated at most: what was asked for, or less if the cache cannot hold it

  bool running = false;      // has a place in the batch
  bool asked = false;        // part of the lease that is under way
  bool refused = false;      // its last lease was refused; it is asked again when there may be room
  bool tight = false;        // nothing is leased ahead for it
  bool begun = false;        // the executor was told of it
  bool decoding = false;     // all chunks of `tokens` are planned
  bool prompt_told = false;  // prompt log-probabilities are delivered
  bool mixed = false;        // two Programs with other results have computed its K/V: no prefix for others
  struct {
    std::uint64_t batch = 0;
    std::uint32_t place = 0;
  } told;  // where the token writer put its last token
  std::uint32_t failures =
      0;  // executors that ended with it in flight, since it was last cleared of suspicion
  std::uint32_t survived = 0;  // tokens that it has sampled since the last of them

  std::vector<std::unique_ptr<wire::TokenLogprobT>> prompt_logprobs;  // until its first token
  std::uint32_t cached_tokens = 0;
  std::uint64_t queued_ns = 0;  // receipt to first step; 0 = not yet
  std::uint64_t first_token_ns =
      0;  // receipt to first token; 0 = not yet, or before a restart of the scheduler
  std::uint64_t waiting_since_ns = 0;
  std::uint64_t last_token_ns = 0;  // 0 = none yet
  std::uint32_t token_version = 0;  // of the Program that sampled it

  std::list<std::unique_ptr<sequence>>::iterator self;  // in the queue or the batch

  std::uint32_t size() const { return static_cast<std::uint32_t>(tokens.size()); }
  std::uint32_t prompt_tokens() const { return submit->prompt()->size(); }
  std::uint32_t generated() const { return size() - prompt_tokens(); }
  // The last token is never computed: nothing comes behind it.
  std::uint32_t last_position() const { return prompt_tokens() + max_tokens - 1; }
  bool wants_prompt_logprobs() const { return submit->prompt_logprobs() >= 0 && !prompt_told; }
  bool may_decode() const { return decoding && generated() + sampling < max_tokens; }
  bool starved() const { return may_decode() && planned >= leased; }

  // Back to where nothing is computed. `next` becomes its name.
  void reset(sequence_id next) {
    id = next;
    leased = planned = computed = sampling = 0;
    running = asked = refused = tight = begun = decoding = mixed = false;
    prompt_logprobs.clear();
  }
};

using sequence_list = std::list<std::unique_ptr<sequence>>;

}  // namespace troupe
