#include "actors/gateway/session_table.hpp"

namespace troupe::gateway {

result<session*> session_table::open(session opened) {
  if (opened.request == 0)
    return fail(error_code::invalid_request,
                "id: 0 is not an id, expected a number that no open request of yours has");
  if (sessions_.size() >= limits_.open_requests)
    return fail(error_code::overloaded,
                "{} requests are open at this server, as many as it takes: try again later",
                sessions_.size());
  if (find(opened.client, opened.request))
    return fail(error_code::invalid_request, "id: {} is that of a request that is still open: choose another",
                opened.request);
  if (const auto own = streams_of(opened.client).size(); own >= limits_.open_requests_per_client)
    return fail(error_code::overloaded,
                "{} requests of this client are open, as many as one may have: wait for some", own);
  if (opened.bytes > limits_.open_bytes - bytes_)
    return fail(error_code::overloaded,
                "the requests open at this server have {} bytes, and it takes {} at once: try again later",
                bytes_, limits_.open_bytes);
  opened.stream = ++last_stream_;
  bytes_ += opened.bytes;
  clients_[opened.client].emplace(opened.request, opened.stream);
  return &sessions_.emplace(opened.stream, std::move(opened)).first->second;
}

session* session_table::find(std::uint64_t stream) {
  auto found = sessions_.find(stream);
  return found == sessions_.end() ? nullptr : &found->second;
}

session* session_table::find(std::string_view client, std::uint64_t request) {
  auto own = clients_.find(client);
  if (own == clients_.end()) return nullptr;
  auto found = own->second.find(request);
  return found == own->second.end() ? nullptr : find(found->second);
}

void session_table::close(std::uint64_t stream) {
  auto found = sessions_.find(stream);
  if (found == sessions_.end()) return;
  bytes_ -= found->second.bytes;
  auto own = clients_.find(found->second.client);
  own->second.erase(found->second.request);
  if (own->second.empty()) clients_.erase(own);
  sessions_.erase(found);
}

std::vector<std::uint64_t> session_table::streams_of(std::string_view client) const {
  std::vector<std::uint64_t> list;
  if (auto own = clients_.find(client); own != clients_.end())
    for (const auto& [request, stream] : own->second) list.push_back(stream);
  return list;
}

std::vector<std::uint64_t> session_table::streams_of(model_id model) const {
  std::vector<std::uint64_t> found;
  for (const auto& [stream, s] : sessions_)
    if (s.model == model) found.push_back(stream);
  return found;
}

std::vector<std::uint64_t> session_table::streams_of(model_id model, int worker) const {
  std::vector<std::uint64_t> list;
  for (const auto& [stream, s] : sessions_)
    if (s.model == model && s.worker == worker) list.push_back(stream);
  return list;
}

std::vector<std::uint64_t> session_table::streams() const {
  std::vector<std::uint64_t> list;
  list.reserve(sessions_.size());
  for (const auto& [stream, s] : sessions_) list.push_back(stream);
  return list;
}

}  // namespace troupe::gateway
