// Replies to clients, as the tokenizers and the gateway build them. No actor framework in here.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernel/base/result.hpp"
#include "kernel/frame/message.hpp"
#include "troupe/schemas/client_generated.h"

namespace troupe {

inline constexpr std::uint16_t protocol_version = 1;  // the one that is spoken
inline constexpr std::uint32_t most_choices = 64;     // n of a Generate

using reply_message = message<wire::ServerReply>;

// Finishes `builder` with `body` as the reply to request `id`.
template <class Table>
reply_message make_reply(flatbuffers::FlatBufferBuilder& builder, std::uint64_t id,
                         flatbuffers::Offset<Table> body) {
  return reply_message::finish(
      builder, wire::CreateServerReply(builder, protocol_version, id,
                                       wire::ReplyBodyTraits<Table>::enum_value, body.Union()));
}

inline reply_message error_reply(std::uint64_t id, error_code code, std::string_view text) {
  flatbuffers::FlatBufferBuilder builder(128 + text.size());
  auto words = builder.CreateString(text.data(), text.size());
  return make_reply(builder, id, wire::CreateError(builder, code, words));
}

inline reply_message error_reply(std::uint64_t id, const error& e) {
  return error_reply(id, e.code, e.text);
}

// An open request is told that it is.
inline reply_message alive_reply(std::uint64_t id) {
  flatbuffers::FlatBufferBuilder b(64);
  return make_reply(b, id, wire::CreateAlive(b));
}

}  // namespace troupe
