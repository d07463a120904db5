// What operators are told of operations. No actor framework in here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/deployment/record.hpp"
#include "actors/replies.hpp"

namespace troupe::deployment {

// Milliseconds since 1970-01-01 UTC.
inline std::uint64_t unix_ms() {
  return static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch() /
                                    std::chrono::milliseconds(1));
}

// What an operation has measured so far.
struct outcome {
  std::vector<std::string> report;
  std::uint64_t bytes_loaded = 0;
  std::uint64_t bytes_freed = 0;
  std::uint32_t streams_finished = 0;
  std::uint32_t streams_ended = 0;
  std::uint32_t sequences_continued = 0;
  std::uint32_t sequences_recomputed = 0;
  std::uint64_t bytes_shared = 0;
  bool caches_kept = false;
  std::uint64_t pause_ns = 0;
  std::uint64_t usual_pause_ns = 0;
};

std::unique_ptr<wire::OperationInfoT> info_of(const operation& o, std::uint64_t now_ms);

reply_message operated_reply(std::uint64_t request, const operation& o, const outcome& measured);
reply_message history_reply(std::uint64_t request, const std::vector<operation>& operations,
                            std::uint64_t now_ms);
reply_message event_reply(std::uint64_t request, const operation& o, std::uint64_t now_ms);

}  // namespace troupe::deployment
