#include "actors/tokenizer/admission.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "tests/actors/tokenizer/requests.hpp"
#include "tests/actors/tokenizer/text_support.hpp"

namespace troupe::text::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinite = std::numeric_limits<float>::infinity();

struct bad_request {
  const char* name;
  std::function<void(wire::GenerateT&)> spoil;
  error_code code;
  const char* text;  // part of it: field, found and allowed
};

void PrintTo(const bad_request& r, std::ostream* out) {
  *out << r.name;
}

class BadRequest : public ::testing::TestWithParam<bad_request> {};

TEST_P(BadRequest, IsRefusedNamingFieldFoundAndAllowed) {
  auto g = text_request("hello");
  GetParam().spoil(g);
  const auto admitted = admit_it(demo_model(), g);
  ASSERT_FALSE(admitted.has_value());
  EXPECT_EQ(admitted.error().code, GetParam().code);
  EXPECT_THAT(admitted.error().text, HasSubstr(GetParam().text));
}

constexpr auto invalid = error_code::invalid_request;

INSTANTIATE_TEST_SUITE_P(
    Table, BadRequest,
    ::testing::Values(
        bad_request{"temperature_high", [](auto& g) { sampling(g).temperature = 101; }, invalid,
                    "sampling.temperature: 101 is outside [0, 100]"},
        bad_request{"temperature_low", [](auto& g) { sampling(g).temperature = -0.5F; }, invalid,
                    "sampling.temperature: -0.5 is outside [0, 100]"},
        bad_request{"temperature_nan", [](auto& g) { sampling(g).temperature = nan; }, invalid,
                    "sampling.temperature: nan"},
        bad_request{"top_p_zero", [](auto& g) { sampling(g).top_p = 0; }, invalid, "sampling.top_p: 0 is outside (0, 1]"},
        bad_request{"top_p_high", [](auto& g) { sampling(g).top_p = 1.5F; }, invalid, "sampling.top_p: 1.5"},
        bad_request{"top_p_nan", [](auto& g) { sampling(g).top_p = nan; }, invalid, "sampling.top_p: nan"},
        bad_request{"min_p_high", [](auto& g) { sampling(g).min_p = 2; }, invalid, "sampling.min_p: 2 is outside [0, 1]"},
        bad_request{"min_p_nan", [](auto& g) { sampling(g).min_p = nan; }, invalid, "sampling.min_p: nan"},
        bad_request{"repetition_zero", [](auto& g) { sampling(g).repetition_penalty = 0; }, invalid,
                    "sampling.repetition_penalty: 0 is not a finite number above 0"},
        bad_request{"repetition_nan", [](auto& g) { sampling(g).repetition_penalty = nan; }, invalid,
                    "sampling.repetition_penalty: nan"},
        bad_request{"repetition_infinite", [](auto& g) { sampling(g).repetition_penalty = infinite; }, invalid,
                    "sampling.repetition_penalty: inf"},
        bad_request{"presence", [](auto& g) { sampling(g).presence_penalty = -2.5F; }, invalid,
                    "sampling.presence_penalty: -2.5 is outside [-2, 2]"},
        bad_request{"frequency", [](auto& g) { sampling(g).frequency_penalty = 3; }, invalid,
                    "sampling.frequency_penalty: 3 is outside [-2, 2]"},
        bad_request{"frequency_nan", [](auto& g) { sampling(g).frequency_penalty = nan; }, invalid,
                    "sampling.frequency_penalty: nan"},
        bad_request{"bias_token", [](auto& g) { sampling(g).logit_bias.emplace_back(4096, 1.0F); }, invalid,
                    "sampling.logit_bias: token 4096 is outside the vocabulary, 0 to 4095"},
        bad_request{"bias_negative_token", [](auto& g) { sampling(g).logit_bias.emplace_back(-1, 1.0F); }, invalid,
                    "sampling.logit_bias: token -1"},
        bad_request{"bias_value", [](auto& g) { sampling(g).logit_bias.emplace_back(5, 200.0F); }, invalid,
                    "sampling.logit_bias: 200 for token 5 is outside [-100, 100]"},
        bad_request{"bias_nan", [](auto& g) { sampling(g).logit_bias.emplace_back(5, nan); }, invalid,
                    "sampling.logit_bias: nan"},
        bad_request{"bias_many", [](auto& g) { sampling(g).logit_bias.resize(5000); }, invalid,
                    "sampling.logit_bias: 5000 entries, at most 4096"},
        bad_request{"n_zero", [](auto& g) { g.n = 0; }, invalid, "n: 0 is outside 1 to 64"},
        bad_request{"n_high", [](auto& g) { g.n = 65; }, invalid, "n: 65 is outside 1 to 64"},
        bad_request{"top_logprobs_high",
                    [](auto& g) {
                      g.logprobs = true;
                      g.top_logprobs = 21;
                    },
                    invalid, "top_logprobs: 21 is outside 0 to 20"},
        bad_request{"top_without_logprobs", [](auto& g) { g.top_logprobs = 2; }, invalid, "but logprobs is false"},
        bad_request{"prompt_logprobs_high", [](auto& g) { g.prompt_logprobs = 21; }, invalid,
                    "prompt_logprobs: 21 is outside -1 to 20"},
        bad_request{"prompt_logprobs_low", [](auto& g) { g.prompt_logprobs = -2; }, invalid, "prompt_logprobs: -2"},
        bad_request{"stop_empty", [](auto& g) { stop(g).strings = {"ok", ""}; }, invalid,
                    "stop.strings[1]: 0 bytes, expected 1 to 1024"},
        bad_request{"stop_long", [](auto& g) { stop(g).strings = {std::string(1025, 'x')}; }, invalid,
                    "stop.strings[0]: 1025 bytes"},
        bad_request{"stop_many", [](auto& g) { stop(g).strings.assign(65, "x"); }, invalid,
                    "stop.strings: 65 strings, at most 64"},
        bad_request{"stop_not_utf8", [](auto& g) { stop(g).strings = {"\xFF\xFE"}; }, invalid,
                    "stop.strings[0]: not valid UTF-8"},
        bad_request{"stop_id", [](auto& g) { stop(g).token_ids = {1, 5000}; }, invalid,
                    "stop.token_ids[1]: 5000 is outside the vocabulary, 0 to 4095"},
        bad_request{"stop_ids_many", [](auto& g) { stop(g).token_ids.assign(2000, 3); }, invalid,
                    "stop.token_ids: 2000 ids, at most 1024"},
        bad_request{"min_above_max",
                    [](auto& g) {
                      stop(g).min_tokens = 10;
                      stop(g).max_tokens = 5;
                    },
                    invalid, "stop.min_tokens: 10 is more than stop.max_tokens, 5"},
        bad_request{"id_outside", [](auto& g) { g = id_request({1, 4096}); }, invalid,
                    "prompt.ids[1]: 4096 is outside the vocabulary, 0 to 4095"},
        bad_request{"id_negative", [](auto& g) { g = id_request({-5}); }, invalid, "prompt.ids[0]: -5"},
        bad_request{"no_ids", [](auto& g) { g = id_request({}); }, invalid, "prompt.ids: empty"},
        bad_request{"no_messages", [](auto& g) { g = chat_request({}); }, invalid, "prompt.messages: empty"},
        bad_request{"no_role", [](auto& g) { g = chat_request({{"", "hi"}}); }, invalid,
                    "prompt.messages[0].role: empty"},
        bad_request{"template_says_no", [](auto& g) { g = chat_request({{"assistant", "hi"}}); },
                    error_code::template_failed, "conversation roles must alternate"},
        bad_request{"prompt_fills_context", [](auto& g) { g = id_request(std::vector<std::int32_t>(128, 5)); },
                    error_code::context_exceeded, "the prompt has 128 tokens and at least 1 must be generated, but the context of model demo is 128 tokens"},
        bad_request{"min_tokens_beyond_context",
                    [](auto& g) {
                      g = id_request(std::vector<std::int32_t>(100, 5));
                      stop(g).min_tokens = 29;
                    },
                    error_code::context_exceeded, "at least 29 must be generated"}),
    [](const auto& row) { return row.param.name; });

TEST(Admission, RefusesAPromptOfATypeThatItDoesNotKnow) {
  flatbuffers::FlatBufferBuilder b;
  auto nothing = wire::CreateListModels(b);
  auto g = wire::CreateGenerate(b, 0, static_cast<wire::Prompt>(9), nothing.Union());
  const auto m = message<wire::Generate>::finish(b, g);
  const auto admitted = admit(demo_model(), 1, *m, 0, [] { return 1; });
  ASSERT_FALSE(admitted.has_value());
  EXPECT_EQ(admitted.error().code, error_code::invalid_request);
  EXPECT_THAT(admitted.error().text, HasSubstr("prompt: type 9 is not known"));
}

TEST(Admission, SaysThatAModelWithoutAChatTemplateTakesNoChat) {
  auto model = demo_model();
  model.chat.reset();
  const auto admitted = admit_it(model, chat_request({{"user", "hi"}}));
  ASSERT_FALSE(admitted.has_value());
  EXPECT_EQ(admitted.error().code, error_code::invalid_request);
  EXPECT_THAT(admitted.error().text, HasSubstr("model demo has no chat template"));
}

TEST(Admission, EncodesTextAsTheTokenizerDoes) {
  const auto admitted = admit_it(demo_model(), text_request("Once upon a time"));
  ASSERT_TRUE(admitted.has_value());
  EXPECT_EQ(admitted->prompt, demo_tokenizer()->encode("Once upon a time", true));
}

TEST(Admission, RendersAChatWithoutAddingSpecialTokensTwice) {
  const auto admitted = admit_it(demo_model(), chat_request({{"user", "What is the capital of France?"}}));
  ASSERT_TRUE(admitted.has_value()) << admitted.error().text;
  EXPECT_EQ(admitted->prompt.front(), 1);
  EXPECT_NE(admitted->prompt.at(1), 1);
  EXPECT_THAT(demo_tokenizer()->decode(admitted->prompt, true),
              HasSubstr("[INST] What is the capital of France?"));
}

TEST(Admission, RefusesTextThatCannotFitWhateverItsTokensAreBeforeItIsEncoded) {
  const auto model = demo_model();
  const std::size_t most = model.context_tokens * model.tokenizer->longest_token_bytes();
  const auto fits_maybe = admit_it(model, text_request(std::string(most, 'a')));
  ASSERT_FALSE(fits_maybe.has_value());
  EXPECT_THAT(fits_maybe.error().text,
              HasSubstr("tokens and at least 1 must be generated"));  // they were counted
  const auto begin = std::chrono::steady_clock::now();
  for (const auto& g : {text_request(std::string(most + 1, 'a')), text_request(std::string(7 << 20, 'a')),
                        chat_request({{"user", std::string(7 << 20, 'a')}})}) {
    const auto refused = admit_it(model, g);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, error_code::context_exceeded);
    EXPECT_THAT(refused.error().text,
                HasSubstr("bytes, and the 128 tokens of the context of model demo hold at most"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

TEST(Admission, AnswersThatTheTokenizerGaveUpOnAText) {
  auto model = demo_model();
  auto loaded = load_document(changed_tokenizer(
      "dbrx", {{"pre_tokenizer",
                {{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}}}}));
  ASSERT_TRUE(loaded) << loaded.error().text;
  model.tokenizer = *loaded;
  const auto admitted = admit_it(model, text_request(std::string(60, 'a') + "b"));
  ASSERT_FALSE(admitted.has_value());
  EXPECT_EQ(admitted.error().code, error_code::invalid_request);
  EXPECT_THAT(admitted.error().text,
              HasSubstr("prompt: a regular expression of the tokenizer gave up at byte 0"));
}

// What a chat template sees, by rendering one that shows it.
std::string shown(text_model model, const std::string& source, const wire::GenerateT& g) {
  model.chat = *chat_template::parse(source);
  wire::TokenizeT t;
  t.prompt = g.prompt;
  const auto rendered = tokenize(model, *message<wire::Tokenize>::pack(t));
  return rendered ? rendered->text : rendered.error().text;
}

TEST(Chat, PassesToolsAndDocumentsAsNone) {
  EXPECT_EQ(shown(demo_model(), "{{ tools is none }} {{ documents is none }} {{ tools is defined }}",
                  chat_request({{"user", "hi"}})),
            "True True True");
}

TEST(Chat, PassesTheSpecialTokensThatTheCheckpointNames) {
  auto model = demo_model();
  EXPECT_EQ(shown(model, "{{ bos_token }}{{ eos_token }} {{ mask_token is defined }}",
                  chat_request({{"user", "hi"}})),
            "<s></s> False");
  const temporary_folder folder;
  std::filesystem::copy(demo_folder("mixtral") / "tokenizer.json", folder.path());
  folder.write("tokenizer_config.json",
               R"({"bos_token": "B", "eos_token": "E", "unk_token": "U", "sep_token": "S",
      "pad_token": {"content": "P"}, "cls_token": "C", "mask_token": "M", "additional_special_tokens": ["X", "Y"]})");
  model.tokenizer = *load_tokenizer(folder.path());
  EXPECT_EQ(shown(model,
                  "{{ bos_token ~ eos_token ~ unk_token ~ sep_token ~ pad_token ~ cls_token ~ mask_token }} "
                  "{{ additional_special_tokens | join }}",
                  chat_request({{"user", "hi"}})),
            "BEUSPCM XY");
}

TEST(Chat, KeepsZeroBytesInRolesAndContents) {
  const std::string role("us\0er", 5);
  EXPECT_EQ(shown(demo_model(), "{{ messages[0].role | length }} {{ messages[0].content | length }}",
                  chat_request({{role, std::string("a\0b", 3)}})),
            "5 3");
}

TEST(Admission, FeedsTheBeginningOfSequenceForAnEmptyText) {
  auto g = text_request("");
  g.prompt.AsTextPrompt()->add_special_tokens = false;
  const auto admitted = admit_it(demo_model(), g);
  ASSERT_TRUE(admitted.has_value());
  EXPECT_THAT(admitted->prompt, ElementsAre(1));
}

TEST(Admission, RefusesAnEmptyTextIfTheModelHasNoBeginningOfSequence) {
  auto model = demo_model();
  model.bos_id.reset();
  auto g = text_request("");
  g.prompt.AsTextPrompt()->add_special_tokens = false;
  const auto admitted = admit_it(model, g);
  ASSERT_FALSE(admitted.has_value());
  EXPECT_EQ(admitted.error().code, error_code::invalid_request);
  EXPECT_THAT(admitted.error().text, HasSubstr("prompt: empty"));
}

TEST(Admission, FillsTheContextIfMaxTokensIsZero) {
  EXPECT_EQ(admit_it(demo_model(), id_request({1, 5, 6}))->max_tokens, 125U);
}

TEST(Admission, ClipsMaxTokensToWhatFits) {
  auto g = id_request({1, 5, 6});
  stop(g).max_tokens = 4000;
  EXPECT_EQ(admit_it(demo_model(), g)->max_tokens, 125U);
  stop(g).max_tokens = 10;
  EXPECT_EQ(admit_it(demo_model(), g)->max_tokens, 10U);
}

TEST(Admission, TakesTheCheckpointsSamplingOnlyIfTheRequestHasNone) {
  auto model = demo_model();
  model.generation.temperature = 0.5F;
  model.generation.top_k = 40;
  auto g = id_request({1});
  EXPECT_FLOAT_EQ(admit_it(model, g)->sampling.temperature, 0.5F);
  EXPECT_EQ(admit_it(model, g)->sampling.top_k, 40U);
  sampling(g).top_p = 0.9F;
  EXPECT_FLOAT_EQ(admit_it(model, g)->sampling.temperature, 1);
  EXPECT_EQ(admit_it(model, g)->sampling.top_k, 0U);
}

TEST(Admission, IsGreedyIfTheCheckpointSaysNotToSample) {
  auto model = demo_model();
  model.generation.temperature = 0.7F;
  model.generation.do_sample = false;
  EXPECT_FLOAT_EQ(admit_it(model, id_request({1}))->sampling.temperature, 0);
}

TEST(Admission, DrawsASeedOnlyIfNoneIsGiven) {
  auto g = id_request({1});
  EXPECT_EQ(admit_it(demo_model(), g, 99)->sampling.seed, 99U);
  sampling(g).seed = 5;
  sampling(g).has_seed = true;
  EXPECT_EQ(admit_it(demo_model(), g, 99)->sampling.seed, 5U);
}

TEST(Admission, EndsAtTheModelsEndOfSequenceAndAtTheRequestsIds) {
  auto g = id_request({1});
  stop(g).token_ids = {13, 2};
  EXPECT_THAT(admit_it(demo_model(), g)->stop_ids, ElementsAre(2, 13));
  stop(g).ignore_eos = true;
  EXPECT_THAT(admit_it(demo_model(), g)->stop_ids, ElementsAre(13, 2));
  stop(g).token_ids.clear();
  EXPECT_THAT(admit_it(demo_model(), g)->stop_ids, ElementsAre());
}

TEST(Admission, CountsTheDeadlineFromReceipt) {
  auto g = id_request({1});
  EXPECT_EQ(admit_it(demo_model(), g)->deadline_ns, 0U);
  g.deadline_ms = 3;
  EXPECT_EQ(admit_it(demo_model(), g)->deadline_ns, 3'001'000U);
}

TEST(Submit, GivesEachChoiceItsSeedAndOnlyTheFirstThePromptsLogprobs) {
  auto g = id_request({1, 5});
  g.n = 2;
  g.prompt_logprobs = 3;
  sampling(g).seed = std::numeric_limits<std::uint64_t>::max();
  sampling(g).has_seed = true;
  const auto admitted = *admit_it(demo_model(), g);
  const auto first = make_submit(admitted, 8, 0, {});
  const auto second = make_submit(admitted, 8, 1, {4, 4});
  EXPECT_EQ(first->sampling()->seed(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(second->sampling()->seed(), 0U);
  EXPECT_EQ(first->prompt_logprobs(), 3);
  EXPECT_EQ(second->prompt_logprobs(), -1);
  EXPECT_EQ(first->generated(), nullptr);
  EXPECT_EQ(second->generated()->size(), 2U);
  EXPECT_EQ(second->stream(), 8U);
}

TEST(Tokenize, RefusesIdsAndAnswersTextAndChat) {
  wire::TokenizeT t;
  t.prompt = id_request({1}).prompt;
  auto refused = tokenize(demo_model(), *message<wire::Tokenize>::pack(t));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().text, HasSubstr("a TokenPrompt is tokenized already"));
  t.prompt = text_request("hello there").prompt;
  EXPECT_EQ(tokenize(demo_model(), *message<wire::Tokenize>::pack(t))->ids,
            demo_tokenizer()->encode("hello there", true));
  t.prompt = chat_request({{"user", "hi"}}).prompt;
  EXPECT_THAT(tokenize(demo_model(), *message<wire::Tokenize>::pack(t))->text,
              HasSubstr("[INST] hi [/INST]"));
}

TEST(Detokenize, RefusesIdsOutsideTheVocabulary) {
  wire::DetokenizeT d;
  d.ids = demo_tokenizer()->encode("hello there", false);
  EXPECT_EQ(*detokenize(demo_model(), *message<wire::Detokenize>::pack(d)), "hello there");
  d.ids.push_back(4096);
  const auto refused = detokenize(demo_model(), *message<wire::Detokenize>::pack(d));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().text, HasSubstr("4096 is outside the vocabulary"));
}

}  // namespace
}  // namespace troupe::text::testing
