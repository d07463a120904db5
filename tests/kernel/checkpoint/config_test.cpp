#include <gmock/gmock.h>

#include "kernel/checkpoint/checkpoint.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::checkpoint {
namespace {

using test::temp_folder;
using testing::ElementsAre;
using testing::HasSubstr;

std::string config_error(const temp_folder& folder, error_code code = error_code::bad_checkpoint) {
  const auto config = read_config(folder.path());
  if (config) return "no error";
  EXPECT_EQ(config.error().code, code);
  return config.error().text;
}

TEST(Config, ReadsTheDemoCheckpoints) {
  const auto mixtral = read_config(TROUPE_SOURCE_DIR "/demo/mixtral-demo");
  ASSERT_TRUE(mixtral) << mixtral.error().text;
  EXPECT_EQ(mixtral->architecture, "MixtralForCausalLM");
  EXPECT_THAT(mixtral->generation.eos_ids, ElementsAre(2));
  EXPECT_EQ(mixtral->generation.bos_id, 1);
  EXPECT_FALSE(mixtral->generation.temperature);
  EXPECT_THAT(mixtral->config_json, HasSubstr("\"num_local_experts\": 8"));
  const auto dbrx = read_config(TROUPE_SOURCE_DIR "/demo/dbrx-demo");
  ASSERT_TRUE(dbrx) << dbrx.error().text;
  EXPECT_THAT(dbrx->generation.eos_ids, ElementsAre(4088, 4093));
}

TEST(Config, ReadsGenerationDefaults) {
  const temp_folder folder;
  folder.write("config.json", R"({"architectures": ["A"], "eos_token_id": 7})");
  folder.write(
      "generation_config.json",
      R"({"eos_token_id": [2, 3], "bos_token_id": 1, "temperature": 0.7, "top_p": 1, "top_k": 50, "min_p": 0.1,
                   "repetition_penalty": 1.1, "max_new_tokens": 100, "do_sample": true})");
  const auto config = read_config(folder.path());
  ASSERT_TRUE(config) << config.error().text;
  const auto& g = config->generation;
  EXPECT_THAT(g.eos_ids, ElementsAre(2, 3));
  EXPECT_EQ(g.bos_id, 1);
  EXPECT_FLOAT_EQ(*g.temperature, 0.7f);
  EXPECT_FLOAT_EQ(*g.top_p, 1.0f);
  EXPECT_EQ(g.top_k, 50u);
  EXPECT_FLOAT_EQ(*g.min_p, 0.1f);
  EXPECT_FLOAT_EQ(*g.repetition_penalty, 1.1f);
  EXPECT_EQ(g.max_new_tokens, 100u);
  EXPECT_EQ(g.do_sample, true);
}

TEST(Config, FallsBackToTheEndOfSequenceOfTheModel) {
  const temp_folder folder;
  folder.write("config.json", R"({"architectures": ["A"], "eos_token_id": [7, 8], "bos_token_id": null})");
  EXPECT_THAT(read_config(folder.path())->generation.eos_ids, ElementsAre(7, 8));
  folder.write("generation_config.json", R"({"eos_token_id": null, "temperature": null})");
  const auto config = read_config(folder.path());
  ASSERT_TRUE(config) << config.error().text;
  EXPECT_THAT(config->generation.eos_ids, ElementsAre(7, 8));
  EXPECT_FALSE(config->generation.bos_id);
  EXPECT_FALSE(config->generation.temperature);
}

TEST(Config, NamesTheFileAndTheKeyThatIsWrong) {
  const temp_folder folder;
  EXPECT_THAT(config_error(folder, error_code::not_found), HasSubstr("config.json: cannot be read"));
  folder.write("config.json", "{\"architectures\": ");
  EXPECT_THAT(config_error(folder), HasSubstr("config.json: not valid JSON"));
  folder.write("config.json", "[]");
  EXPECT_THAT(config_error(folder), HasSubstr("config.json: expected a JSON object"));
  folder.write("config.json", "{}");
  EXPECT_THAT(config_error(folder), HasSubstr("config.json: architectures: the key is missing"));
  for (const char* value : {"[]", "\"A\"", "[3]", "[\"\"]", "null"}) {
    folder.write("config.json", fmt::format(R"({{"architectures": {}}})", value));
    EXPECT_THAT(config_error(folder), HasSubstr("config.json: architectures: expected a list"));
  }
  folder.write("config.json", R"({"architectures": ["A"], "eos_token_id": "two"})");
  EXPECT_THAT(config_error(folder),
              HasSubstr("config.json: eos_token_id: expected an integer from 0 up, found \"two\""));
}

struct generation_case {
  const char* json;
  const char* text;
};

TEST(Config, NamesTheGenerationKeyThatIsWrong) {
  const temp_folder folder;
  folder.write("config.json", R"({"architectures": ["A"]})");
  const generation_case cases[] = {
      {"{", "generation_config.json: not valid JSON"},
      {R"({"eos_token_id": [1, -2]})",
       "generation_config.json: eos_token_id: expected an integer from 0 up, found -2"},
      {R"({"eos_token_id": 99999999999})", "eos_token_id"},
      {R"({"bos_token_id": 1.5})", "bos_token_id"},
      {R"({"temperature": "hot"})", "temperature: expected a number, found \"hot\""},
      {R"({"top_p": true})", "top_p: expected a number, found true"},
      {R"({"top_k": -1})", "top_k: expected an integer from 0 up, found -1"},
      {R"({"do_sample": 1})", "do_sample: expected true or false, found 1"},
  };
  for (const auto& c : cases) {
    folder.write("generation_config.json", c.json);
    EXPECT_THAT(config_error(folder), HasSubstr(c.text));
  }
}

TEST(Config, ReadsAFileThatStandsAlone) {
  const temp_folder folder;
  const auto file = folder.write("mixtral-8x7b.json", R"({"architectures": ["A"], "eos_token_id": 2})");
  folder.write("generation_config.json", R"({"eos_token_id": [2, 3]})");
  const auto config = read_config(file);
  ASSERT_TRUE(config) << config.error().text;
  EXPECT_EQ(config->architecture, "A");
  EXPECT_EQ(config->folder, folder.path());
  EXPECT_EQ(config->generation.eos_ids, (std::vector<std::int32_t>{2}));
  EXPECT_THAT(read_config(folder.write("none.json", "[]")).error().text,
              HasSubstr("none.json: expected a JSON object"));
  EXPECT_EQ(read_config(folder.path() / "nowhere.json").error().code, error_code::not_found);
}

TEST(Config, SaysWhenTheFolderIsNone) {
  EXPECT_EQ(read_config("/nonexistent/folder").error().code, error_code::not_found);
}

}  // namespace
}  // namespace troupe::checkpoint
