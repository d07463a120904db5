#include "actors/deployment/answers.hpp"

#include <algorithm>

namespace troupe::deployment {

std::unique_ptr<wire::OperationInfoT> info_of(const operation& o, std::uint64_t now_ms) {
  auto info = std::make_unique<wire::OperationInfoT>();
  const std::uint64_t end = o.ended_ms != 0 ? o.ended_ms : now_ms;
  info->operation = o.id;
  info->model = o.model;
  info->verb = name_of(o.course.verb);
  info->state = name_of(o.state);
  info->dry_run = o.course.dry_run;
  info->begun_ms = o.begun_ms;
  info->took_ms = static_cast<double>(end - std::min(end, o.begun_ms));
  info->old_generation = o.old_generation;
  info->new_generation = o.new_generation;
  info->reason = o.reason;
  return info;
}

reply_message operated_reply(std::uint64_t request, const operation& o, const outcome& measured) {
  wire::OperatedT answer;
  answer.info = info_of(o, o.ended_ms);
  answer.report = measured.report;
  answer.bytes_loaded = measured.bytes_loaded;
  answer.bytes_freed = measured.bytes_freed;
  answer.streams_finished = measured.streams_finished;
  answer.streams_ended = measured.streams_ended;
  answer.sequences_continued = measured.sequences_continued;
  answer.sequences_recomputed = measured.sequences_recomputed;
  answer.bytes_shared = measured.bytes_shared;
  answer.caches_kept = measured.caches_kept;
  answer.pause_ms = static_cast<double>(measured.pause_ns) / 1e6;
  answer.usual_pause_ms = static_cast<double>(measured.usual_pause_ns) / 1e6;
  flatbuffers::FlatBufferBuilder b(512);
  return make_reply(b, request, wire::CreateOperated(b, &answer));
}

reply_message history_reply(std::uint64_t request, const std::vector<operation>& operations,
                            std::uint64_t now_ms) {
  wire::HistoryT answer;
  for (const operation& o : operations) answer.operations.push_back(info_of(o, now_ms));
  flatbuffers::FlatBufferBuilder b(1024);
  return make_reply(b, request, wire::CreateHistory(b, &answer));
}

reply_message event_reply(std::uint64_t request, const operation& o, std::uint64_t now_ms) {
  wire::EventT answer;
  answer.info = info_of(o, now_ms);
  answer.time_ms = now_ms;
  flatbuffers::FlatBufferBuilder b(512);
  return make_reply(b, request, wire::CreateEvent(b, &answer));
}

}  // namespace troupe::deployment
