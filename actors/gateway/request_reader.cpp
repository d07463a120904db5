#include "actors/gateway/request_reader.hpp"

#include <utf8proc.h>

namespace troupe::gateway {
namespace {

error not_spoken(std::uint16_t version) {
  return {error_code::unsupported_version,
          fmt::format("version {} of the protocol is not spoken here, only version {}", version,
                      protocol_version)};
}

tl::unexpected<refusal> refuse(std::uint64_t id, error why) {
  return tl::unexpected<refusal>({id, std::move(why)});
}

}  // namespace

tl::expected<request_message, refusal> read_request(std::span<const std::uint8_t> frame) {
  auto request = request_message::adopt_untrusted(frame);
  if (!request) {
    auto head = message<wire::RequestHead>::adopt_untrusted(frame);
    if (!head) return refuse(0, std::move(request.error()));
    if ((*head)->version() != protocol_version) return refuse((*head)->id(), not_spoken((*head)->version()));
    return refuse((*head)->id(), std::move(request.error()));
  }
  const auto& r = **request;
  const auto type = r.body_type();
  if (r.version() != protocol_version && type != wire::RequestBody::Hello)
    return refuse(r.id(), not_spoken(r.version()));
  if (type == wire::RequestBody::NONE || type > wire::RequestBody::MAX)
    return refuse(r.id(),
                  {error_code::invalid_request, fmt::format("body: request type {} is not one of version {}",
                                                            static_cast<int>(type), protocol_version)});
  if (r.id() == 0)
    return refuse(0, {error_code::invalid_request,
                      "id: 0 is not an id, expected a number that no open request of yours has"});
  return std::move(*request);
}

std::string quotable(std::string_view words) {
  constexpr std::size_t longest = 100;
  std::string out;
  for (std::size_t at = 0; at < words.size();) {
    utf8proc_int32_t c = -1;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(words.data() + at);
    const auto read = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(words.size() - at), &c);
    const bool good = read > 0 && utf8proc_category(c) != UTF8PROC_CATEGORY_CC;
    const auto used = read > 0 ? static_cast<std::size_t>(read) : 1;
    const auto piece = good ? words.substr(at, used) : std::string_view("\xEF\xBF\xBD");
    if (out.size() + piece.size() > longest) return out + "...";
    out += piece;
    at += used;
  }
  return out;
}

reply_message answer_hello(std::uint64_t id, const wire::Hello& hello, std::string_view server) {
  if (hello.min_version() > protocol_version || hello.max_version() < protocol_version)
    return error_reply(id, error_code::unsupported_version,
                       fmt::format("versions {} to {} of the protocol are not spoken here, only version {}",
                                   hello.min_version(), hello.max_version(), protocol_version));
  flatbuffers::FlatBufferBuilder b(128);
  auto name = b.CreateString(server.data(), server.size());
  return make_reply(b, id, wire::CreateWelcome(b, protocol_version, name));
}

}  // namespace troupe::gateway
