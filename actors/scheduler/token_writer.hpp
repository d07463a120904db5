// Collects what a step brought to the sequences of each destination; one TokenBatch per destination.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <memory>
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
  // A sampled token and what came with it. `s` holds it already. With its first token goes what is known of the prompt.
  void add_token(sequence& s, const wire::SequenceStep& step);
  // The end of a sequence without a token: in an error, or (error none) because nothing may be generated.
  void add_end(const sequence& s, error_code error, std::string_view text);

  // What was collected since the last call, appended to `out`.
  void take(std::vector<token_batch>& out);

 private:
  struct destination {
    flatbuffers::FlatBufferBuilder builder{1024};
    std::vector<flatbuffers::Offset<wire::TokenDelta>> deltas;
  };
  destination& of(const sequence& s);

  std::vector<std::unique_ptr<destination>> destinations_;  // by number
  std::vector<flatbuffers::Offset<wire::TokenLogprob>> prompt_;
};

}  // namespace troupe
