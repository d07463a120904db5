#include "troupe/client.hpp"

#include <atomic>

#include "call.hpp"

namespace troupe::client {
// ---- stream ---------------------------------------------------------------------------------------------

struct stream::state {
  std::shared_ptr<link> owner;
  std::shared_ptr<mailbox> box = std::make_shared<mailbox>();
  std::uint64_t id = 0;
  std::atomic<bool> ended{false};
  std::optional<final_message> final;
  std::optional<failure> error;

  ~state() {
    if (ended) return;
    owner->forget(id);
    owner->send(cancel_request(owner->next_id(), id));
  }

  void fail(const failure& why) {
    error = why;
    ended = true;
    throw why;
  }
};

stream::stream(std::unique_ptr<state> s) : state_(std::move(s)) {}
stream::stream(stream&&) noexcept = default;
stream& stream::operator=(stream&&) noexcept = default;
stream::~stream() = default;

std::optional<chunk> stream::next(milliseconds timeout) {
  auto& s = *state_;
  if (s.error) throw *s.error;
  if (s.final) return std::nullopt;
  std::optional<reply> r;
  try {
    r = s.box->take(timeout);
  } catch (const failure& lost) {
    s.fail(lost);
  }
  if (!r)
    throw failure(error_code::deadline_exceeded,
                  "nothing from " + s.owner->endpoint + " within " + in_ms(timeout));
  if (const auto* c = (*r)->body_as<wire::Chunk>()) return read_chunk(*c);
  if (const auto* f = (*r)->body_as<wire::Final>()) {
    s.final = read_final(*f);
    s.ended = true;
    return std::nullopt;
  }
  if (const auto* e = (*r)->body_as<wire::Error>()) s.fail(read_error(*e));
  s.fail({error_code::invalid_frame, s.owner->endpoint + " answered with a message of another type"});
  return std::nullopt;
}

const final_message& stream::final() const {
  if (!state_->final) throw std::logic_error("stream::final() before next() has answered nothing");
  return *state_->final;
}

void stream::cancel() {
  if (!state_->ended) state_->owner->send(cancel_request(state_->owner->next_id(), state_->id));
}

std::uint64_t stream::id() const {
  return state_->id;
}

// ---- connection -----------------------------------------------------------------------------------------

stream connection::generate(const generate_request& request) const {
  auto s = std::make_unique<stream::state>();
  s->owner = link_;
  s->id = link_->next_id();
  s->ended = true;  // until the server knows of it
  link_->open(s->id, s->box, generate_message(s->id, request));
  s->ended = false;
  return stream(std::move(s));
}

final_message connection::generate(const generate_request& request,
                                   const std::function<bool(const chunk&)>& on_chunk) const {
  auto s = generate(request);
  bool wanted = true;
  while (auto piece = s.next()) {
    if (!wanted) continue;
    wanted = on_chunk(*piece);
    if (!wanted) s.cancel();
  }
  return s.final();
}

token_ids connection::tokenize(std::string_view text, bool add_special_tokens, std::string_view model) const {
  const auto id = link_->next_id();
  auto r = call<wire::TokenIds>(
      *link_, id, tokenize_request(id, text_prompt{std::string(text), add_special_tokens}, model),
      link_->options.call_timeout);
  const auto* ids = r->body_as_TokenIds()->ids();
  return {{ids->begin(), ids->end()}, {}};
}

token_ids connection::tokenize(const chat_prompt& chat, std::string_view model) const {
  const auto id = link_->next_id();
  auto r = call<wire::TokenIds>(*link_, id, tokenize_request(id, chat, model), link_->options.call_timeout);
  const auto* answer = r->body_as_TokenIds();
  return {{answer->ids()->begin(), answer->ids()->end()}, answer->text() ? answer->text()->str() : ""};
}

std::string connection::detokenize(const std::vector<std::int32_t>& ids, bool skip_special_tokens,
                                   std::string_view model) const {
  const auto id = link_->next_id();
  auto r = call<wire::DecodedText>(*link_, id, detokenize_request(id, ids, skip_special_tokens, model),
                                   link_->options.call_timeout);
  return r->body_as_DecodedText()->text()->str();
}

std::vector<model_info> connection::models() const {
  const auto id = link_->next_id();
  auto r = call<wire::ModelList>(*link_, id, models_request(id), link_->options.call_timeout);
  std::vector<model_info> list;
  for (const auto* m : *r->body_as_ModelList()->models()) list.push_back(read_model(*m));
  return list;
}

server_status connection::status() const {
  const auto id = link_->next_id();
  auto r = call<wire::Status>(*link_, id, status_request(id), link_->options.call_timeout);
  return read_status(*r->body_as_Status());
}

const std::string& connection::endpoint() const {
  return link_->endpoint;
}
const std::string& connection::server() const {
  return link_->server;
}
std::uint16_t connection::protocol_version() const {
  return spoken_version;
}

connection connect(const std::string& endpoint, const connect_options& options) {
  auto l = std::make_shared<link>(endpoint, options);
  const auto end = std::chrono::steady_clock::now() + options.timeout;
  if (!l->wait_connected(options.timeout))
    throw failure(error_code::unavailable, "no Troupe server answers at " + endpoint + " within " +
                                               in_ms(options.timeout) +
                                               ": is `troupe serve` running, and listening at that address?");
  const auto left = std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
  const auto id = l->next_id();
  auto r = [&] {
    try {
      return call<wire::Welcome>(*l, id, hello_request(id, options.name), std::max(left, milliseconds(100)));
    } catch (const failure& e) {
      if (e.code() != error_code::deadline_exceeded) throw;
      throw failure(error_code::unavailable,
                    "something listens at " + endpoint + " but did not answer a Hello within " +
                        in_ms(options.timeout) + ": is it a Troupe server, and is it busy?");
    }
  }();
  const auto* welcome = r->body_as_Welcome();
  if (welcome->server()) l->server = welcome->server()->str();
  return connection(std::move(l));
}

}  // namespace troupe::client
