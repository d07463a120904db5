// Collects what the steps brought to the sequences of each destination. A destination that has not taken its last batches
// gets no more of them: what comes meanwhile waits and is told in one, so that a slow reader gets fewer and larger
// messages, never a growing mailbox.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "actors/scheduler/sequence.hpp"
#include "kernel/base/result.hpp"
#include "kernel/frame/message.hpp"
#include "troupe/schemas/actors_generated.h"

namespace troupe {

struct token_batch {
  std::uint32_t destination = 0;
  message<wire::TokenBatch> batch;
};

class token_writer {
 public:
  // Batches that a destination may have without having said that it took them.
  static constexpr std::uint32_t batches_under_way = 2;

  // A sampled token and what came with it. `s` holds it already. With its first token goes what is known of the prompt.
  void add_token(sequence& s, const wire::SequenceStep& step);
  // The end of a sequence without a token: in an error, or (error none) because nothing may be generated.
  void add_end(const sequence& s, error_code error, std::string_view text);

  // What waits for destinations that may have another batch, appended to `out`.
  void take(std::vector<token_batch>& out);
  // The destination has worked off one of its batches.
  void taken(std::uint32_t destination);
  // The destination is gone: nothing waits for it any more.
  void forget(std::uint32_t destination);

  // Tokens that wait for the destination.
  std::uint32_t backlog(std::uint32_t destination) const;

 private:
  struct delta {
    std::uint64_t stream = 0;
    std::uint32_t choice = 0;
    std::vector<flatbuffers::Offset<wire::TokenLogprob>> tokens;
    flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<wire::TokenLogprob>>> prompt;
    wire::FinishReason finish = wire::FinishReason::none;
    std::int32_t stop_token = -1;
    error_code error = error_code::none;
    flatbuffers::Offset<flatbuffers::String> error_text;
    std::optional<wire::SequenceUsage> usage;
  };
  struct destination {
    flatbuffers::FlatBufferBuilder builder{1024};
    std::vector<delta> deltas;  // the first `used` of them; the others are kept for their memory
    std::size_t used = 0;
    std::uint32_t tokens = 0;     // in deltas
    std::uint32_t under_way = 0;  // batches
    std::uint64_t batch = 1;      // number of the one that is being filled
  };
  destination& of(const sequence& s);
  static delta& add_delta(destination& d, const sequence& s);
  static message<wire::TokenBatch> write(destination& d);

  std::vector<std::unique_ptr<destination>> destinations_;  // by number
  std::vector<flatbuffers::Offset<wire::TokenLogprob>> prompt_;
};

}  // namespace troupe
