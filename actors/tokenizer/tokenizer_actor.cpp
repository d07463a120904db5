#include "actors/tokenizer/tokenizer_actor.hpp"

#include <fmt/format.h>

#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <random>
#include <unordered_map>
#include <utility>

#include "actors/replies.hpp"
#include "actors/tokenizer/stream_state.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {
namespace {

std::uint64_t steady_now_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

// Small enough to go through JSON: its readers keep 53 bits of a number.
std::function<std::uint64_t()> random_seeds() {
  auto engine = std::make_shared<std::mt19937_64>((std::uint64_t{std::random_device{}()} << 32) ^
                                                  std::random_device{}());
  return [engine] { return (*engine)() >> 11; };
}

message<wire::Abort> make_abort(std::uint64_t stream, std::int32_t choice) {
  flatbuffers::FlatBufferBuilder b(64);
  return message<wire::Abort>::finish(b, wire::CreateAbort(b, stream, choice));
}

std::string reason_text(error_code why) {
  switch (why) {
    case error_code::shutting_down:
      return "the server is shutting down: send the request again to another one, or later";
    case error_code::overloaded:
      return "the server is overloaded: try again later";
    case error_code::unavailable:
      return "a part of the server was restarted and the stream could not go on: send the request again";
    default:
      return fmt::format("the server ended the stream ({})", wire::EnumNameErrorCode(why));
  }
}

struct tokenizer_state {
  static inline const char* name = "tokenizer";

  tokenizer_actor::pointer self = nullptr;
  tokenizer_options options;
  text::text_model model;
  scheduler_actor scheduler;
  std::string scheduler_id;
  caf::strong_actor_ptr gateway;  // who asked last
  std::unordered_map<std::uint64_t, text::stream_state> streams;

  void admit(std::uint64_t stream, const message<wire::ClientRequest>& request, std::uint64_t received_ns);
  void open(std::uint64_t stream, std::uint64_t request, const wire::Generate& body,
            std::uint64_t received_ns);
  void abandon(std::uint64_t stream, error_code why);
  void apply(const message<wire::TokenBatch>& batch);
  void meet(const std::string& id, const caf::strong_actor_ptr& peer);
  void redirect(std::uint32_t instance, const caf::strong_actor_ptr& peer);

  void carry_out(std::uint64_t stream, text::stream_state::outcome& outcome, outgoing_batch& out);
  void answer(std::uint64_t stream, reply_message reply);
  void send_out(outgoing_batch batch);
  template <class Message>
  void to_scheduler(Message m) {
    if (scheduler) self->send(scheduler, std::move(m));  // without one, streams are submitted when it comes
  }
};

void tokenizer_state::admit(std::uint64_t stream, const message<wire::ClientRequest>& request,
                            std::uint64_t received_ns) {
  gateway = self->current_sender();
  const auto id = request->id();
  if (const auto* generate = request->body_as_Generate()) {
    open(stream, id, *generate, received_ns);
  } else if (const auto* t = request->body_as_Tokenize()) {
    auto encoded = text::tokenize(model, *t);
    if (!encoded) return answer(stream, error_reply(id, encoded.error()));
    flatbuffers::FlatBufferBuilder b(64 + 4 * encoded->ids.size() + encoded->text.size());
    auto ids = b.CreateVector(encoded->ids);
    auto words = t->prompt_type() == wire::Prompt::ChatPrompt ? b.CreateString(encoded->text) : 0;
    answer(stream, make_reply(b, id, wire::CreateTokenIds(b, ids, words)));
  } else if (const auto* d = request->body_as_Detokenize()) {
    auto decoded = text::detokenize(model, *d);
    if (!decoded) return answer(stream, error_reply(id, decoded.error()));
    flatbuffers::FlatBufferBuilder b(64 + decoded->size());
    auto words = b.CreateString(*decoded);
    answer(stream, make_reply(b, id, wire::CreateDecodedText(b, words)));
  } else {
    answer(stream, error_reply(id, error_code::internal, "a tokenizer was asked for what it does not do"));
  }
}

void tokenizer_state::open(std::uint64_t stream, std::uint64_t request, const wire::Generate& body,
                           std::uint64_t received_ns) {
  if (const auto deadline = text::deadline_of(body, received_ns);
      deadline != 0 && options.now_ns() >= deadline)
    return answer(stream, error_reply(request, error_code::deadline_exceeded,
                                      "the request's deadline passed while it waited for its prompt to be "
                                      "encoded: allow more time, or try again later"));
  auto admitted = text::admit(model, request, body, received_ns, options.draw_seed, options.limits);
  if (!admitted) return answer(stream, error_reply(request, admitted.error()));
  try {
    auto [at, is_new] = streams.try_emplace(stream, stream, std::move(*admitted), model.tokenizer);
    if (!is_new) return;
    for (auto& submit : at->second.submits()) to_scheduler(std::move(submit));
  } catch (const text::cannot_tokenize& e) {  // the prompt that is to be echoed
    answer(stream, error_reply(request, error_code::internal, e.what()));
  }
}

void tokenizer_state::abandon(std::uint64_t stream, error_code why) {
  auto found = streams.find(stream);
  if (found == streams.end()) {
    // Not ours (any more): the scheduler may still know it from the worker before us.
    to_scheduler(make_abort(stream, -1));
    return;
  }
  auto outcome = why == error_code::cancelled ? found->second.cancel(options.now_ns())
                                              : found->second.fail(why, reason_text(why));
  outgoing_batch out;
  carry_out(stream, outcome, out);
  send_out(std::move(out));
}

void tokenizer_state::apply(const message<wire::TokenBatch>& batch) {
  if (self->current_sender() != caf::actor_cast<caf::strong_actor_ptr>(scheduler)) return;
  const auto now = options.now_ns();
  outgoing_batch out;
  out.reserve(batch->deltas()->size());
  for (const auto* delta : *batch->deltas()) {
    auto found = streams.find(delta->stream());
    if (found == streams.end()) continue;
    auto outcome = found->second.apply(*delta, now);
    carry_out(delta->stream(), outcome, out);
  }
  send_out(std::move(out));
}

void tokenizer_state::meet(const std::string& id, const caf::strong_actor_ptr& peer) {
  if (id != scheduler_id) return;
  if (peer == caf::actor_cast<caf::strong_actor_ptr>(scheduler)) return;
  scheduler = caf::actor_cast<scheduler_actor>(peer);
  if (!streams.empty())
    log::info("tokenizer", "streams submitted to a new scheduler",
              {{"model", options.model->name}, {"worker", options.worker}, {"streams", streams.size()}});
  for (const auto& [stream, state] : streams)
    for (auto& submit : state.submits()) to_scheduler(std::move(submit));
}

// The one before forgets them; what it has sampled meanwhile is sampled again.
void tokenizer_state::redirect(std::uint32_t instance, const caf::strong_actor_ptr& peer) {
  for (const auto& [stream, state] : streams) to_scheduler(make_abort(stream, -1));
  scheduler_id = fmt::format("scheduler/{}", instance);
  meet(scheduler_id, peer);
}

// Tells the scheduler what to drop and forgets the stream if it has ended; the replies go to `out`.
void tokenizer_state::carry_out(std::uint64_t stream, text::stream_state::outcome& outcome,
                                outgoing_batch& out) {
  for (std::size_t i = 0; i < outcome.replies.size(); ++i)
    out.push_back({stream, outcome.ended && i + 1 == outcome.replies.size(), std::move(outcome.replies[i])});
  for (const auto choice : outcome.stop_choices)
    to_scheduler(make_abort(stream, static_cast<std::int32_t>(choice)));
  if (outcome.drop_all) to_scheduler(make_abort(stream, -1));
  if (outcome.ended) streams.erase(stream);
}

void tokenizer_state::answer(std::uint64_t stream, reply_message reply) {
  send_out({{stream, true, std::move(reply)}});
}

void tokenizer_state::send_out(outgoing_batch batch) {
  if (!batch.empty() && gateway) self->send(caf::actor_cast<gateway_actor>(gateway), std::move(batch));
}

tokenizer_actor::behavior_type worker(tokenizer_actor::stateful_pointer<tokenizer_state> self,
                                      tokenizer_options options) {
  auto* state = &self->state;
  state->self = self;
  state->model = text_model_of(*options.model);
  state->options = std::move(options);
  state->scheduler_id = fmt::format("scheduler/{}", state->options.model->id.value);
  return {
      [state](peer_atom, const std::string& id, const caf::strong_actor_ptr& peer) { state->meet(id, peer); },
      [state](admit_atom, std::uint64_t stream, const message<wire::ClientRequest>& request,
              std::uint64_t received_ns) { state->admit(stream, request, received_ns); },
      [state](abandon_atom, std::uint64_t stream, std::uint16_t why) {
        state->abandon(stream, static_cast<error_code>(why));
      },
      [state](const message<wire::TokenBatch>& batch) { state->apply(batch); },
      [state](redirect_atom, std::uint32_t model, const caf::strong_actor_ptr& peer) {
        state->redirect(model, peer);
      }};
}

}  // namespace

tokenizer_actor spawn_tokenizer(caf::actor_system& system, tokenizer_options options) {
  if (!options.draw_seed) options.draw_seed = random_seeds();
  if (!options.now_ns) options.now_ns = steady_now_ns;
  if (options.detached) return system.spawn<caf::detached>(worker, std::move(options));
  return system.spawn(worker, std::move(options));
}

text::text_model text_model_of(const prepared_model& from) {
  text::text_model to;
  to.name = from.name;
  to.tokenizer = from.tokenizer;
  to.chat = from.chat;
  to.eos_ids = from.eos_ids;
  to.context_tokens = from.context_tokens;
  to.vocabulary = from.vocabulary;
  to.generation = from.checkpoint.generation;
  if (!from.tokenizer->bos_token().empty()) to.bos_id = from.tokenizer->id_of(from.tokenizer->bos_token());
  if (!to.bos_id && from.program->facts()->bos_id() >= 0) to.bos_id = from.program->facts()->bos_id();
  return to;
}

}  // namespace troupe
