// Requests to a scheduler, written down shortly.
#pragma once

#include <memory>

#include "kernel/frame/message.hpp"
#include "tests/support/recall_backend.hpp"
#include "troupe/schemas/actors_generated.h"

namespace troupe::test {

inline wire::SubmitT submit_of(std::uint64_t stream, const recall_request& r) {
  wire::SubmitT s;
  s.stream = stream;
  s.prompt = r.prompt;
  s.sampling = std::make_unique<wire::SamplingT>();
  s.sampling->seed = r.seed;
  s.sampling->has_seed = true;
  s.max_tokens = r.max_tokens;
  s.min_tokens = r.min_tokens;
  s.stop_ids = r.stop_ids;
  return s;
}

inline message<wire::Submit> pack(const wire::SubmitT& s) {
  return message<wire::Submit>::pack(s);
}

inline message<wire::Abort> abort_of(std::uint64_t stream, std::int32_t choice = -1) {
  wire::AbortT a;
  a.stream = stream;
  a.choice = choice;
  return message<wire::Abort>::pack(a);
}

}  // namespace troupe::test
