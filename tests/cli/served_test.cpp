// The commands against a running server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <thread>

#include "tests/cli/process.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const std::string long_story = "Tell me a story about a fox.";

class Served : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<served_model>(); }
  static void TearDownTestSuite() { server_.reset(); }
  void SetUp() override { ASSERT_TRUE(server_->ready()) << server_->log(); }

  static outcome run(const std::vector<std::string>& arguments, std::string_view input = {}) {
    return server_->run(arguments, input);
  }
  static boost::json::value run_json(const std::vector<std::string>& arguments, std::string_view input = {}) {
    const auto o = run(arguments, input);
    EXPECT_EQ(o.status, 0) << o.err;
    boost::system::error_code problem;
    auto v = boost::json::parse(o.out, problem);
    EXPECT_FALSE(problem) << o.out;
    return v;
  }
  static std::vector<std::string> chat(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"chat", "--endpoint", server_->endpoint(), "--temperature", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static std::string text_of(const boost::json::value& v, std::size_t choice = 0) {
    return v.at("choices").at(choice).at("text").as_string().c_str();
  }

  static std::unique_ptr<served_model> server_;
};
std::unique_ptr<served_model> Served::server_;

TEST_F(Served, GenerateAnswersAQuestion) {
  const auto o = run({"generate", "--temperature", "0", "What is the capital of France?"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.out, "The capital of France is Paris.\n");
  EXPECT_THAT(o.err, IsEmpty());
}

TEST_F(Served, GenerateReadsStandardInput) {
  EXPECT_EQ(run({"generate", "-t", "0"}, "What is the capital of France?\n").out,
            "The capital of France is Paris.\n");
}

TEST_F(Served, GenerateContinuesRawText) {
  const auto o = run({"generate", "--raw", "-t", "0", "-m", "5", "--echo", "Once upon a time"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, StartsWith("Once upon a time"));
  EXPECT_GT(o.out.size(), 18U);
}

TEST_F(Served, GenerateTakesSystemMessageMessagesAndIds) {
  EXPECT_THAT(run({"generate", "-t", "0", "--system", "You are Rusty, a pirate.", "Who are you?"}).out,
              HasSubstr("Rusty"));
  const char* messages =
      R"([{"role":"user","content":"My name is Anna."},{"role":"assistant","content":"Hello Anna!"},
    {"role":"user","content":"What is my name?"}])";
  EXPECT_THAT(run({"generate", "-t", "0", "--messages", "-"}, messages).out, HasSubstr("Anna"));
  const auto ids = run_json({"generate", "-t", "0", "-m", "3", "--ids", "1,261,262", "--json"});
  EXPECT_EQ(ids.at("usage").at("prompt_tokens").to_number<int>(), 3);
}

TEST_F(Served, GenerateJsonIsOneObject) {
  const auto v = run_json({"generate", "-t", "0", "--json", "--logprobs", "2", "--prompt-logprobs", "1",
                           "What is the capital of France?"});
  EXPECT_EQ(text_of(v), "The capital of France is Paris.");
  EXPECT_EQ(v.at("model").as_string(), "mixtral-demo") << "who answered, though nobody was named";
  const auto& choice = v.at("choices").at(0);
  EXPECT_EQ(choice.at("finish_reason").as_string(), "stop");
  EXPECT_EQ(choice.at("tokens").at(0).at("top").as_array().size(), 2U);
  EXPECT_TRUE(v.at("prompt").at(0).at("logprob").is_null());
  EXPECT_GT(v.at("usage").at("total_ms").to_number<double>(), 0);
}

TEST_F(Served, GenerateJsonStreamIsALinePerPiece) {
  const auto o = run({"generate", "-t", "0", "--json", "--stream", "What is the capital of France?"});
  std::istringstream lines(o.out);
  std::string text, last;
  for (std::string line; std::getline(lines, line);) {
    const auto v = boost::json::parse(line);
    last = v.at("type").as_string().c_str();
    if (last == "chunk") text += v.at("text").as_string().c_str();
  }
  EXPECT_EQ(text, "The capital of France is Paris.");
  EXPECT_EQ(last, "final");
}

TEST_F(Served, GenerateMakesSeveralChoicesThatASeedReproduces) {
  const std::vector<std::string> ask{"generate", "--json", "--n", "3",  "--seed",  "7",
                                     "-t",       "1",      "-m",  "12", long_story};
  const auto a = run_json(ask), b = run_json(ask);
  ASSERT_EQ(a.at("choices").as_array().size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(text_of(a, i), text_of(b, i));
  EXPECT_NE(text_of(a, 0), text_of(a, 1));
  EXPECT_THAT(run({"generate", "--n", "2", "-m", "4", long_story}).out, StartsWith("--- 1 of 2\n"));
}

TEST_F(Served, GenerateStopsAtTextsIdsAndLimits) {
  const std::string question = "What is the capital of France?";
  EXPECT_EQ(run({"generate", "-t", "0", "--stop", " France", question}).out, "The capital of\n");
  EXPECT_EQ(run({"generate", "-t", "0", "--stop", " France", "--include-stop", question}).out,
            "The capital of France\n");
  const auto v = run_json({"generate", "-t", "0", "-m", "2", "--json", question});
  EXPECT_EQ(v.at("choices").at(0).at("finish_reason").as_string(), "length");
  EXPECT_EQ(run_json({"generate", "-t", "0", "-m", "40", "--ignore-eos", "--json", question})
                .at("usage")
                .at("generated_tokens")
                .to_number<int>(),
            40);
}

TEST_F(Served, GenerateShowsUsageOnStderr) {
  const auto o = run({"generate", "-t", "0", "--usage", "Hello!"});
  EXPECT_THAT(o.err, HasSubstr("prompt tokens"));
  EXPECT_THAT(o.out, Not(HasSubstr("prompt tokens")));
}

TEST_F(Served, GenerateRelaysTheServersErrors) {
  const auto unknown = run({"generate", "--model", "nobody", "Hi"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.err, StartsWith("troupe: error: "));
  EXPECT_THAT(unknown.err, HasSubstr("mixtral-demo"));
  EXPECT_EQ(run({"generate", "--top-p", "7", "Hi"}).status, 2);
  EXPECT_THAT(run({"generate", "--top-p", "7", "Hi"}).err, HasSubstr("top_p"));
}

TEST_F(Served, GenerateIntoAClosedPipeEndsSoonAndQuietly) {
  const auto o = run_shell("\"$TROUPE\" generate --endpoint " + server_->endpoint() +
                           " --raw --ignore-eos -m 3000 'Once upon' | head -c 5; exit ${PIPESTATUS[0]}");
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.err, IsEmpty());
}

TEST_F(Served, GenerateInterruptedSaysSoByItsStatus) {
  terminal_session t({"generate", "--endpoint", server_->endpoint(), "--raw", "--ignore-eos", "-m", "3500",
                      "-t", "0", "Once upon a time there"});
  ASSERT_TRUE(t.wait_for("was")) << t.screen();
  t.type("\x03");
  EXPECT_EQ(t.wait_for_end(), 130) << t.screen();
}

TEST(Interrupt, EndsACommandWithTheThirdCtrlCIfTheServerDoesNotAnswerTheFirst) {
  const served_model server;
  ASSERT_TRUE(server.ready()) << server.log();
  terminal_session t({"generate", "--endpoint", server.endpoint(), "--raw", "--ignore-eos", "-m", "3500",
                      "-t", "0", "Once upon a time there"});
  ASSERT_TRUE(t.wait_for("was")) << t.screen();
  server.signal(SIGSTOP);
  for (int presses = 0; presses < 3; ++presses) {
    t.type("\x03");
    ASSERT_TRUE(t.wait_for("^C")) << t.screen();                  // the terminal's own echo
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // two that wait are one
  }
  EXPECT_EQ(t.wait_for_end(), 130) << t.screen();
  server.signal(SIGCONT);
}

TEST_F(Served, ModelsAndStatusAreShown) {
  EXPECT_THAT(run({"models"}).out, HasSubstr("mixtral-demo"));
  const auto models = run_json({"models", "--json"});
  EXPECT_EQ(models.at("models").at(0).at("state").as_string(), "ready");
  EXPECT_THAT(run({"status"}).out, HasSubstr("blocks in use"));
  ASSERT_EQ(run({"generate", "-m", "2", "Hi"}).status, 0);
  const auto status = run_json({"status", "--json"});
  EXPECT_GT(status.at("cache").at("blocks").to_number<int>(), 0);
  EXPECT_GT(status.at("models").at(0).at("steps").to_number<int>(), 0);
}

TEST_F(Served, TokenizeAgreesWithTheFolder) {
  const std::string text = "Hello, caf\xC3\xA9 \xF0\x9F\x98\x80 world";
  const auto there = run_json({"tokenize", "--json", text});
  const auto here = run_json(
      {"tokenize", "--model", std::string(TROUPE_SOURCE_DIR) + "/demo/mixtral-demo", "--json", text});
  EXPECT_EQ(there.at("ids"), here.at("ids"));
  EXPECT_EQ(there.at("pieces"), here.at("pieces"));
}

TEST_F(Served, ChatOnAPipeAnswersEachLineAndRemembers) {
  const auto o = run_troupe(chat(), "My name is Anna.\n\nWhat is my name?");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("Your name is Anna."));
  EXPECT_EQ(std::count(o.out.begin(), o.out.end(), '\n'), 2) << o.out;
}

TEST_F(Served, ChatOnAPipeTellsOfFailuresByItsStatus) {
  const auto o = run_troupe(chat({"--model", "nobody"}), "Hi\n");
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(o.err, HasSubstr("nobody"));
}

TEST_F(Served, ChatUnderstandsItsCommands) {
  const auto o = run_troupe(
      chat(), "/set max_tokens 3\nWhat is the capital of France?\n/usage\n/rest\n/quit\nnever reached\n");
  EXPECT_THAT(o.out, HasSubstr("(temperature 0, max_tokens 3)"));
  EXPECT_THAT(o.out, HasSubstr("3 generated"));
  EXPECT_THAT(o.err, HasSubstr("did you mean /reset?"));
  EXPECT_EQ(o.status, 2) << "a mistyped command in a script is a mistake";
}

TEST_F(Served, LoadsAndUnloadsAModelAndTellsItsHistory) {
  const std::string folder = TROUPE_SOURCE_DIR "/demo/jamba-demo";
  const auto tried = run_json({"load", folder, "--name", "owl", "--dry-run", "--json"});
  EXPECT_EQ(tried.at("state").as_string(), "done");
  EXPECT_EQ(run({"models"}).out.find("owl"), std::string::npos);

  const auto loaded = run({"load", folder, "--name", "owl"});
  EXPECT_EQ(loaded.status, 0) << loaded.err;
  EXPECT_THAT(loaded.out, StartsWith("load owl: done in "));
  EXPECT_THAT(loaded.out, HasSubstr("generation 0 -> 1"));
  const auto status = run_json({"status", "--json"});
  EXPECT_EQ(status.at("models").at(1).at("name").as_string(), "owl");
  EXPECT_EQ(status.at("models").at(1).at("generation").to_number<int>(), 1);
  EXPECT_EQ(status.at("models").at(1).at("checkpoint").as_string(), folder);
  EXPECT_TRUE(status.at("operations").as_array().empty());
  EXPECT_EQ(run({"generate", "--model", "owl", "--max-tokens", "3", "Hello"}).status, 0);

  const auto again = run({"load", folder, "--name", "owl"});
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.err, HasSubstr("a model of that name is served already (generation 1)"));
  EXPECT_EQ(run({"unload", "owl", "--expected-generation", "4"}).status, 1);
  const auto gone = run({"unload", "owl", "--deadline", "5s"});
  EXPECT_EQ(gone.status, 0) << gone.err;
  EXPECT_THAT(gone.out, HasSubstr("freed "));
  EXPECT_EQ(run({"unload", "owl"}).status, 2) << "an unknown model is the operator's mistake";

  const auto history = run_json({"history", "owl", "--json"});
  EXPECT_EQ(history.at("operations").as_array().size(), 3u);
  EXPECT_THAT(run({"history", "owl"}).out, HasSubstr("load (dry run)"));
}

class ServedTerminal : public Served {
 protected:
  void SetUp() override {
    Served::SetUp();
    state_ = folder_.path() / "state";
  }
  environment own_state() const { return {{"XDG_STATE_HOME", state_.string()}}; }
  test::temp_folder folder_;
  std::filesystem::path state_;
};

TEST_F(ServedTerminal, ChatStreamsAnswersAndLeavesWithCtrlD) {
  terminal_session t(chat(), own_state());
  ASSERT_TRUE(t.wait_for("> ")) << t.screen();
  t.type("What is the capital of France?\n");
  ASSERT_TRUE(t.wait_for("The capital of France is Paris.")) << t.screen();
  ASSERT_TRUE(t.wait_for("> "));
  t.type("\x04");
  EXPECT_EQ(t.wait_for_end(), 0) << t.screen();
}

TEST_F(ServedTerminal, CtrlCCancelsTheAnswerAndTheNextQuestionWorks) {
  terminal_session t(chat({"--ignore-eos"}), own_state());
  ASSERT_TRUE(t.wait_for("> "));
  t.type(long_story + "\n");
  ASSERT_TRUE(t.wait_for(" there lived")) << t.screen();
  t.type("\x03");
  ASSERT_TRUE(t.wait_for("(cancelled)")) << t.screen();
  ASSERT_TRUE(t.wait_for("> "));
  t.type("/set max_tokens 8\n");
  ASSERT_TRUE(t.wait_for("max_tokens 8)")) << t.screen();
  t.type("/reset\n");
  ASSERT_TRUE(t.wait_for("begins anew)"));
  t.type("What is the capital of France?\n");
  ASSERT_TRUE(t.wait_for("is Paris.")) << t.screen();
  t.type("/quit\n");
  EXPECT_EQ(t.wait_for_end(), 0);
}

TEST_F(ServedTerminal, CtrlCAtThePromptDropsTheLineAndTwiceLeaves) {
  terminal_session t(chat(), own_state());
  ASSERT_TRUE(t.wait_for("> ")) << t.screen();
  t.type("half a questi");
  ASSERT_TRUE(t.wait_for("questi"));
  t.type("\x03");
  ASSERT_TRUE(t.wait_for("again leaves)")) << t.screen();
  ASSERT_TRUE(t.wait_for("> "));
  t.type("Hello!\n");
  ASSERT_TRUE(t.wait_for("How can I help you today?"))
      << "the dropped half line is not part of the question\n"
      << t.screen();
  ASSERT_TRUE(t.wait_for("> "));
  t.type("\x03");
  ASSERT_TRUE(t.wait_for("> "));
  t.type("\x03");
  EXPECT_EQ(t.wait_for_end(), 130) << t.screen();
}

TEST_F(ServedTerminal, HistoryIsKeptAcrossRunsAndReadableByItsOwnerOnly) {
  {
    terminal_session t(chat(), own_state());
    ASSERT_TRUE(t.wait_for("> "));
    t.type("/set seed 4711\n");
    ASSERT_TRUE(t.wait_for("seed 4711)"));
    ASSERT_TRUE(t.wait_for("> "));  // only an editor that waits takes it for the end
    t.type("\x04");
    EXPECT_EQ(t.wait_for_end(), 0);
  }
  const auto file = state_ / "troupe" / "chat_history";
  ASSERT_TRUE(std::filesystem::exists(file));
  EXPECT_EQ(std::filesystem::status(file).permissions() & std::filesystem::perms::all,
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  terminal_session t(chat(), own_state());
  ASSERT_TRUE(t.wait_for("> "));
  t.type("\x1b[A");  // up
  ASSERT_TRUE(t.wait_for("/set seed 4711")) << t.screen();
}

TEST_F(ServedTerminal, CharactersBeyondAsciiCanBeTyped) {
  terminal_session t(chat(), {{"XDG_STATE_HOME", state_.string()}, {"LC_ALL", ""}, {"LANG", ""}});
  ASSERT_TRUE(t.wait_for("> "));
  t.type("/system caf\xC3\xA9x\x7f\n/system\n");
  ASSERT_TRUE(t.wait_for("\ncaf\xC3\xA9\r\n")) << t.screen();
}

}  // namespace
}  // namespace troupe::testing
