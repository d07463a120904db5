// The client library against a server that answers as it is told.
#include "troupe/client.hpp"

#include <gmock/gmock.h>

#include <thread>

#include "tests/clients/cpp/scripted_server.hpp"

namespace troupe::client::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

failure failure_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const failure& e) {
    return e;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {error_code::none, ""};
}

const scripted_server::script silent = [](const auto&, const auto&) {};

// Generate: three chunks and a Final.
const scripted_server::script three_chunks = [](const wire::ClientRequest& r, const auto& reply) {
  if (r.body_type() != wire::RequestBody::Generate) return;
  for (const auto* text : {"one ", "two ", "three"}) reply(r.id(), chunk_of(text));
  reply(r.id(), final_of(wire::FinishReason::stop));
};

// Generate: one chunk; the end comes with a Cancel.
const scripted_server::script until_cancelled = [](const wire::ClientRequest& r, const auto& reply) {
  if (r.body_as_Generate()) reply(r.id(), chunk_of("begun"));
  if (const auto* c = r.body_as_Cancel()) reply(c->target(), final_of(wire::FinishReason::cancelled));
};

TEST(Connect, LearnsWhoTheServerIs) {
  scripted_server server(silent);
  const auto c = connect(server.endpoint());
  EXPECT_EQ(c.server(), "scripted 1");
  EXPECT_EQ(c.protocol_version(), 1);
  EXPECT_EQ(c.endpoint(), server.endpoint());
}

TEST(Connect, SaysThatNobodyAnswersAndWhatToDo) {
  const auto e = failure_of([] { connect("tcp://127.0.0.1:1", {.timeout = 100ms}); });
  EXPECT_EQ(e.code(), error_code::unavailable);
  EXPECT_THAT(e.what(), HasSubstr("no Troupe server answers at tcp://127.0.0.1:1 within 100 ms"));
  EXPECT_THAT(e.what(), HasSubstr("troupe serve"));
}

TEST(Connect, SaysThatWhatListensIsNoTroupeServer) {
  scripted_server server(silent);
  server.greets = false;
  const auto e = failure_of([&] { connect(server.endpoint(), {.timeout = 200ms}); });
  EXPECT_EQ(e.code(), error_code::unavailable);
  EXPECT_THAT(e.what(), HasSubstr("did not answer a Hello"));
}

TEST(Connect, PassesOnThatTheVersionIsNotSpoken) {
  scripted_server server([](const auto& r, const auto& reply) {
    reply(r.id(), error_of(error_code::unsupported_version, "only version 2"));
  });
  server.greets = false;
  const auto e = failure_of([&] { connect(server.endpoint()); });
  EXPECT_EQ(e.code(), error_code::unsupported_version);
  EXPECT_STREQ(e.what(), "only version 2");
}

TEST(Connect, NamesAnEndpointThatIsNone) {
  const auto e = failure_of([] { connect("localhost:7410"); });
  EXPECT_EQ(e.code(), error_code::bad_config);
  EXPECT_THAT(e.what(), HasSubstr("'localhost:7410' is not an endpoint"));
}

TEST(Stream, IsReadUntilItsEnd) {
  scripted_server server(three_chunks);
  auto s = connect(server.endpoint()).generate({.prompt = text_prompt{"count"}});
  std::string text;
  while (auto piece = s.next(5s)) text += piece->text;
  EXPECT_EQ(text, "one two three");
  EXPECT_EQ(s.final().choices.at(0).finish, finish_reason::stop);
  EXPECT_EQ(s.final().choices.at(0).seed, 99U);
  EXPECT_EQ(s.final().usage.generated_tokens, 3U);
  EXPECT_FALSE(s.next()) << "asking again is no error";
}

TEST(Stream, SendsWhatIsAsked) {
  wire::GenerateT asked;
  scripted_server server([&](const wire::ClientRequest& r, const auto& reply) {
    r.body_as_Generate()->UnPackTo(&asked);
    reply(r.id(), final_of(wire::FinishReason::length));
  });
  generate_request g;
  g.model = "m";
  g.prompt = chat_prompt{{{"user", "hi"}}};
  g.sampling = sampling_options{.temperature = 0.5F, .top_k = 7, .logit_bias = {{5, -1.5F}}, .seed = 11};
  g.stop = {.max_tokens = 4, .token_ids = {3}, .strings = {"end"}};
  g.n = 2;
  g.logprobs = true;
  g.top_logprobs = 3;
  g.deadline = 1500ms;
  auto s = connect(server.endpoint()).generate(g);
  EXPECT_FALSE(s.next(5s));
  EXPECT_EQ(asked.model, "m");
  EXPECT_EQ(asked.prompt.AsChatPrompt()->messages.at(0)->content, "hi");
  EXPECT_FLOAT_EQ(asked.sampling->temperature, 0.5F);
  EXPECT_EQ(asked.sampling->top_k, 7U);
  EXPECT_EQ(asked.sampling->logit_bias.at(0).token(), 5);
  EXPECT_TRUE(asked.sampling->has_seed);
  EXPECT_EQ(asked.sampling->seed, 11U);
  EXPECT_EQ(asked.stop->max_tokens, 4U);
  EXPECT_THAT(asked.stop->strings, ElementsAre("end"));
  EXPECT_EQ(asked.n, 2U);
  EXPECT_EQ(asked.top_logprobs, 3U);
  EXPECT_EQ(asked.deadline_ms, 1500U);
}

TEST(Stream, LeavesSamplingOutUnlessGiven) {
  bool had_sampling = true;
  scripted_server server([&](const wire::ClientRequest& r, const auto& reply) {
    had_sampling = r.body_as_Generate()->sampling() != nullptr;
    reply(r.id(), final_of(wire::FinishReason::length));
  });
  auto s = connect(server.endpoint()).generate({.prompt = token_prompt{{1, 2}}});
  s.next(5s);
  EXPECT_FALSE(had_sampling);
}

TEST(Stream, ThrowsTheServersErrorEachTimeItIsAsked) {
  scripted_server server([](const auto& r, const auto& reply) {
    reply(r.id(), error_of(error_code::context_exceeded, "too long"));
  });
  auto s = connect(server.endpoint()).generate({.prompt = text_prompt{"x"}});
  for (int i = 0; i < 2; ++i) {
    const auto e = failure_of([&] { s.next(5s); });
    EXPECT_EQ(e.code(), error_code::context_exceeded);
    EXPECT_STREQ(e.what(), "too long");
  }
}

TEST(Stream, MayBeAskedAgainAfterATimeout) {
  scripted_server server(until_cancelled);
  auto s = connect(server.endpoint()).generate({.prompt = text_prompt{"x"}});
  EXPECT_EQ(s.next(5s)->text, "begun");
  EXPECT_EQ(failure_of([&] { s.next(50ms); }).code(), error_code::deadline_exceeded);
  s.cancel();
  EXPECT_FALSE(s.next(5s));
  EXPECT_EQ(s.final().choices.at(0).finish, finish_reason::cancelled);
}

TEST(Stream, IsCancelledFromAnotherThread) {
  scripted_server server(until_cancelled);
  auto s = connect(server.endpoint()).generate({.prompt = text_prompt{"x"}});
  EXPECT_EQ(s.next(5s)->text, "begun");
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    s.cancel();
  });
  EXPECT_FALSE(s.next(5s));
  other.join();
}

TEST(Stream, IsCancelledAtTheServerIfItIsDropped) {
  scripted_server server(until_cancelled);
  {
    auto s = connect(server.endpoint()).generate({.prompt = text_prompt{"x"}});
    s.next(5s);
  }
  EXPECT_TRUE(server.wait_heard(wire::RequestBody::Cancel));
}

TEST(Stream, IsNotCancelledAfterItsEnd) {
  scripted_server server(three_chunks);
  const auto c = connect(server.endpoint());
  {
    auto s = c.generate({.prompt = text_prompt{"x"}});
    while (s.next(5s)) {
    }
  }
  c.generate({.prompt = text_prompt{"x"}}, [](const auto&) { return true; });
  EXPECT_EQ(server.heard(wire::RequestBody::Cancel), 0);
}

TEST(Stream, FailsIfTheServerIsGone) {
  auto server = std::make_unique<scripted_server>(until_cancelled);
  auto s = connect(server->endpoint()).generate({.prompt = text_prompt{"x"}});
  EXPECT_TRUE(s.next(5s));
  server.reset();
  const auto e = failure_of([&] { s.next(5s); });
  EXPECT_EQ(e.code(), error_code::unavailable);
  EXPECT_THAT(e.what(), HasSubstr("was lost"));
}

TEST(Stream, IsReadToItsEndEvenIfTheServerGoesRightBehindIt) {
  constexpr int pieces = 900;
  auto server = std::make_unique<scripted_server>([](const auto& request, const auto& reply) {
    for (int i = 0; i < pieces; ++i) reply(request.id(), chunk_of("x"));
    reply(request.id(), final_of(wire::FinishReason::stop));
  });
  server->linger = 5000;
  auto s = connect(server->endpoint()).generate({.prompt = text_prompt{"x"}});
  ASSERT_TRUE(server->wait_heard(wire::RequestBody::Generate));
  server.reset();
  int read = 0;
  while (s.next(5s)) ++read;
  EXPECT_EQ(read, pieces);
}

TEST(Stream, SeveralRunAtOnceOnOneConnection) {
  std::vector<std::uint64_t> ids;
  scripted_server server([&](const wire::ClientRequest& r, const auto& reply) {
    if (!r.body_as_Generate()) return;
    ids.push_back(r.id());
    if (ids.size() < 3) return;
    for (int round = 0; round < 2; ++round)
      for (const auto id : ids) reply(id, chunk_of(std::to_string(id) + " "));
    for (const auto id : ids) reply(id, final_of(wire::FinishReason::stop));
  });
  const auto c = connect(server.endpoint());
  std::vector<stream> streams;
  for (int i = 0; i < 3; ++i) streams.push_back(c.generate({.prompt = text_prompt{"x"}}));
  for (auto& s : streams) {
    std::string text;
    while (auto piece = s.next(5s)) text += piece->text;
    const auto id = std::to_string(s.id());
    EXPECT_EQ(text, id + " " + id + " ");
  }
}

TEST(Generate, CallsBackForEachPieceAndStopsIfAsked) {
  scripted_server server(until_cancelled);
  std::string text;
  const auto end = connect(server.endpoint()).generate({.prompt = text_prompt{"x"}}, [&](const chunk& piece) {
    text += piece.text;
    return false;
  });
  EXPECT_EQ(text, "begun");
  EXPECT_EQ(end.choices.at(0).finish, finish_reason::cancelled);
}

TEST(Calls, TokenizeAndDetokenize) {
  scripted_server server([](const wire::ClientRequest& r, const auto& reply) {
    if (const auto* t = r.body_as_Tokenize()) {
      wire::TokenIdsT ids;
      ids.ids = {1, 2, 3};
      if (t->prompt_as_ChatPrompt()) ids.text = "[INST] hi";
      reply(r.id(), body(std::move(ids)));
    }
    if (const auto* d = r.body_as_Detokenize()) {
      wire::DecodedTextT text;
      text.text = std::to_string(d->ids()->size()) + " ids";
      reply(r.id(), body(std::move(text)));
    }
  });
  const auto c = connect(server.endpoint());
  EXPECT_THAT(c.tokenize("hello").ids, ElementsAre(1, 2, 3));
  EXPECT_EQ(c.tokenize(chat_prompt{{{"user", "hi"}}}).text, "[INST] hi");
  EXPECT_EQ(c.detokenize({4, 5}), "2 ids");
}

TEST(Calls, ModelsAndStatus) {
  scripted_server server([](const wire::ClientRequest& r, const auto& reply) {
    const auto model = [] {
      auto m = std::make_unique<wire::ModelInfoT>();
      m->name = "demo";
      m->state = "ready";
      m->context_tokens = 128;
      return m;
    };
    if (r.body_as_ListModels()) {
      wire::ModelListT list;
      list.models.push_back(model());
      reply(r.id(), body(std::move(list)));
    }
    if (r.body_as_ServerStatus()) {
      wire::StatusT s;
      s.version = "troupe 1";
      s.cache = std::make_unique<wire::CacheInfoT>();
      s.cache->free_blocks = 9;
      s.models.push_back(model());
      reply(r.id(), body(std::move(s)));
    }
  });
  const auto c = connect(server.endpoint());
  ASSERT_EQ(c.models().size(), 1U);
  EXPECT_EQ(c.models().at(0).name, "demo");
  const auto s = c.status();
  EXPECT_EQ(s.version, "troupe 1");
  EXPECT_EQ(s.cache.free_blocks, 9U);
  EXPECT_EQ(s.models.at(0).context_tokens, 128U);
}

TEST(Calls, FailIfNoAnswerComesInTime) {
  scripted_server server(silent);
  const auto c = connect(server.endpoint(), {.call_timeout = 50ms});
  const auto e = failure_of([&] { (void)c.models(); });
  EXPECT_EQ(e.code(), error_code::deadline_exceeded);
  EXPECT_THAT(e.what(), HasSubstr(server.endpoint()));
}

TEST(Calls, FailAtOnceWhileTheConnectionIsDownAndWorkAgainWhenItIsBack) {
  auto server = std::make_unique<scripted_server>(three_chunks);
  const auto endpoint = server->endpoint();
  const auto c = connect(endpoint);
  server.reset();
  std::optional<failure> down;
  for (int i = 0; i < 500 && !down; ++i) {  // until the loss is noticed
    try {
      c.generate({.prompt = text_prompt{"x"}}).next(10ms);
    } catch (const failure& e) {
      if (e.code() == error_code::unavailable) down = e;
    }
  }
  ASSERT_TRUE(down);
  server = std::make_unique<scripted_server>(three_chunks, endpoint);
  for (int i = 0; i < 500; ++i) {
    try {
      EXPECT_EQ(c.generate({.prompt = text_prompt{"x"}}).next(5s)->text, "one ");
      return;
    } catch (const failure&) {
      std::this_thread::sleep_for(10ms);
    }
  }
  FAIL() << "the connection did not heal";
}

TEST(Client, IgnoresRepliesThatItDoesNotKnow) {
  scripted_server server([](const wire::ClientRequest& r, const auto& reply) {
    if (!r.body_as_Generate()) return;
    reply(r.id(), body(wire::AliveT()));
    reply(777, final_of(wire::FinishReason::stop));
    reply(r.id(), chunk_of("ok"));
    reply(r.id(), final_of(wire::FinishReason::stop));
  });
  auto s = connect(server.endpoint()).generate({.prompt = text_prompt{"x"}});
  EXPECT_EQ(s.next(5s)->text, "ok");
  EXPECT_FALSE(s.next(5s));
}

}  // namespace
}  // namespace troupe::client::testing
