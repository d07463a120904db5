// What commands share, without a process, a terminal or a server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>

#include "cli/answer_writer.hpp"
#include "cli/conversation.hpp"
#include "cli/interrupt.hpp"
#include "cli/line_reader.hpp"
#include "cli/output.hpp"
#include "cli/sampling_flags.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::cli {
namespace {

using ::testing::HasSubstr;

TEST(Output, TableAlignsNumbersRightAndCountsCharactersNotBytes) {
  EXPECT_EQ(table({{"A", "N"}, {"é", "5"}, {"xy", "1234"}}), "A   N\né      5\nxy  1234\n");
}

TEST(Output, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(escaped("a\n\x1b[1m\\"), "a\\n\\x1b[1m\\\\");
}

TEST(Output, UnescapesLineBreaksAndKeepsOtherBackslashes) {
  EXPECT_EQ(unescaped("a\\nb\\d\\\\n"), "a\nb\\d\\n");
}

TEST(Output, ReplacesBytesThatAreNoUtf8) {
  EXPECT_EQ(valid_utf8("a\xF0\x9F\x98\x80z"), "a\xF0\x9F\x98\x80z");
  EXPECT_EQ(valid_utf8("a\xE2\x82z"), "a\xEF\xBF\xBD\xEF\xBF\xBDz");
  EXPECT_EQ(valid_utf8("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD") << "an overlong form";
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "a surrogate";
}

// Standard input that a test writes.
class piped_input {
 public:
  piped_input() : before_(::dup(STDIN_FILENO)) {
    EXPECT_EQ(::pipe(ends_), 0);
    ::dup2(ends_[0], STDIN_FILENO);
  }
  ~piped_input() {
    ::dup2(before_, STDIN_FILENO);
    for (const int d : {before_, ends_[0], ends_[1]}) ::close(d);
  }
  piped_input(const piped_input&) = delete;
  piped_input& operator=(const piped_input&) = delete;
  void write(std::string_view text) const {
    EXPECT_EQ(::write(ends_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

 private:
  int before_;
  int ends_[2] = {-1, -1};
};

TEST(LineReader, HearsACtrlCThatCameBeforeItWaits) {
  const interrupt_guard guard;
  const piped_input input;
  const auto lines = make_plain_reader();
  std::raise(SIGINT);
  std::string line;
  EXPECT_EQ(lines->read(line), line_reader::outcome::interrupted);
  EXPECT_FALSE(interrupt_guard::pressed());
  input.write("next\n");
  EXPECT_EQ(lines->read(line), line_reader::outcome::line);
  EXPECT_EQ(line, "next");
}

TEST(LineReader, HearsACtrlCThatInterruptsAnotherThread) {
  const interrupt_guard guard;
  const piped_input input;
  std::thread other([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    pthread_kill(pthread_self(), SIGINT);
  });
  std::string line;
  EXPECT_EQ(make_plain_reader()->read(line), line_reader::outcome::interrupted);
  other.join();
}

TEST(SamplingFlags, LeaveSamplingToTheServerIfNothingWasGiven) {
  sampling_flags f;
  f.max_tokens = 5;
  ASSERT_TRUE(sampling_of(f));
  EXPECT_FALSE(*sampling_of(f));
}

TEST(SamplingFlags, KeepNeutralValuesBesideTheOneThatWasGiven) {
  sampling_flags f;
  f.top_k = 3;
  const auto s = **sampling_of(f);
  EXPECT_EQ(s.top_k, 3U);
  EXPECT_EQ(s.temperature, 1);
  EXPECT_EQ(s.top_p, 1);
  EXPECT_FALSE(s.seed);
}

TEST(SamplingFlags, ReadBiasesAndRefuseWhatIsNone) {
  sampling_flags f;
  f.logit_bias = {"5=-100", "7=0.5"};
  EXPECT_EQ((**sampling_of(f)).logit_bias, (std::map<std::int32_t, float>{{5, -100.0F}, {7, 0.5F}}));
  for (const char* bad : {"5", "=1", "a=1", "5=", "5=x", "5=1 "}) {
    f.logit_bias = {bad};
    const auto s = sampling_of(f);
    ASSERT_FALSE(s) << bad;
    EXPECT_EQ(s.error().code, error_code::invalid_request);
  }
}

TEST(SamplingFlags, TakeStopTextsWithEscapes) {
  sampling_flags f;
  f.stop = {"\\n\\n"};
  EXPECT_EQ(stop_of(f).strings, std::vector<std::string>{"\n\n"});
}

TEST(SamplingFlags, SettingIsUndoneByAnEmptyValue) {
  sampling_flags f;
  ASSERT_TRUE(set_sampling(f, "top-p", "0.9"));
  EXPECT_EQ(describe(f), "top_p 0.9");
  ASSERT_TRUE(set_sampling(f, "top_p", ""));
  EXPECT_EQ(describe(f), "as the checkpoint recommends");
}

TEST(SamplingFlags, UnknownSettingNamesTheNearest) {
  sampling_flags f;
  const auto r = set_sampling(f, "temprature", "1");
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().text, HasSubstr("did you mean temperature?"));
}

TEST(SamplingFlags, SettingRefusesWhatIsNoNumberAndKeepsTheOldValue) {
  sampling_flags f;
  f.max_tokens = 7;
  for (const char* bad : {"x", "1x", "-1"}) EXPECT_FALSE(set_sampling(f, "max_tokens", bad)) << bad;
  EXPECT_EQ(f.max_tokens, 7U);
}

std::vector<std::string> roles(const client::generate_request& r) {
  std::vector<std::string> out;
  for (const auto& m : std::get<client::chat_prompt>(r.prompt).messages)
    out.push_back(m.role + ":" + m.content);
  return out;
}

TEST(Conversation, SendsEverythingSaidSoFar) {
  conversation c({}, "Be brief.", "m");
  c.answered("Hi", "Hello!", {});
  const auto r = c.ask("And you?");
  ASSERT_TRUE(r);
  EXPECT_EQ(r->model, "m");
  EXPECT_EQ(roles(*r),
            (std::vector<std::string>{"system:Be brief.", "user:Hi", "assistant:Hello!", "user:And you?"}));
}

TEST(Conversation, ForgetsAQuestionThatGotNoAnswer) {
  conversation c({}, "", "");
  c.answered("Hi", "", {});
  EXPECT_TRUE(c.messages().empty());
}

TEST(Conversation, ResetKeepsSystemMessageAndSettings) {
  conversation c({}, "Be brief.", "");
  ASSERT_TRUE(c.command("/set temperature 0"));
  c.answered("Hi", "Hello!", {});
  ASSERT_TRUE(c.command("/reset"));
  const auto r = c.ask("x");
  EXPECT_EQ(roles(*r), (std::vector<std::string>{"system:Be brief.", "user:x"}));
  EXPECT_EQ(r->sampling->temperature, 0);
}

TEST(Conversation, SystemMessageCanBeSetShownAndRemoved) {
  conversation c({}, "", "");
  ASSERT_TRUE(c.command("/system You are a pirate."));
  EXPECT_EQ(c.command("/system")->text, "You are a pirate.\n");
  EXPECT_EQ(roles(*c.ask("x")).front(), "system:You are a pirate.");
  ASSERT_TRUE(c.command("/system -"));
  EXPECT_EQ(roles(*c.ask("x")), std::vector<std::string>{"user:x"});
}

TEST(Conversation, MistypedCommandNamesTheNearest) {
  conversation c({}, "", "");
  const auto r = c.command("/rest");
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().text, HasSubstr("did you mean /reset?"));
}

TEST(Conversation, HelpNamesEveryCommandAndQuitLeaves) {
  conversation c({}, "", "");
  for (const char* word : {"/help", "/reset", "/system", "/set", "/usage", "/save", "/quit"})
    EXPECT_THAT(c.command("/help")->text, HasSubstr(word));
  EXPECT_FALSE(c.command("/help")->leave);
  EXPECT_TRUE(c.command("/quit")->leave);
}

TEST(Conversation, TwoSlashesAreNoCommand) {
  EXPECT_TRUE(conversation::is_command("/help"));
  EXPECT_FALSE(conversation::is_command("//usr/bin"));
  EXPECT_FALSE(conversation::is_command("What is 1/2?"));
}

TEST(Conversation, SavesMessagesAsJsonThatGenerateReads) {
  const test::temp_folder folder;
  const auto file = folder.path() / "saved.json";
  conversation c({}, "S", "");
  c.answered("Hi", "Hello \"you\"!", {});
  ASSERT_TRUE(c.command("/save " + file.string()));
  std::ifstream in(file);
  const auto saved = boost::json::parse(std::string(std::istreambuf_iterator<char>(in), {}));
  EXPECT_EQ(saved.as_array().size(), 3U);
  EXPECT_EQ(saved.at(2).at("content").as_string(), "Hello \"you\"!");
}

TEST(Conversation, SaveSaysWhichFileCannotBeWritten) {
  conversation c({}, "", "");
  const auto r = c.command("/save /no/such/folder/x.json");
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().text, HasSubstr("/no/such/folder/x.json"));
  EXPECT_FALSE(c.command("/save"));
}

// What a writer puts on stdout.
std::string written(const writer_options& o, const std::vector<client::chunk>& pieces,
                    const client::final_message& end) {
  ::testing::internal::CaptureStdout();
  auto w = make_writer(o);
  for (const auto& p : pieces) EXPECT_TRUE(w->add(p));
  EXPECT_TRUE(w->finish(end));
  return ::testing::internal::GetCapturedStdout();
}

client::final_message one_end() {
  client::final_message end;
  end.choices = {{0, client::finish_reason::stop, 2, "", 3, 9}};
  end.usage.generated_tokens = 3;
  return end;
}

TEST(AnswerWriter, TextEndsInExactlyOneLineBreak) {
  EXPECT_EQ(written({}, {{0, "Pa", {}, {}}, {0, "ris", {}, {}}}, one_end()), "Paris\n");
  EXPECT_EQ(written({}, {{0, "Paris\n", {}, {}}}, one_end()), "Paris\n");
}

TEST(AnswerWriter, SeveralChoicesAreShownWholeAndInOrder) {
  writer_options o;
  o.choices = 2;
  EXPECT_EQ(written(o, {{1, "b", {}, {}}, {0, "a", {}, {}}, {1, "B", {}, {}}}, one_end()),
            "--- 1 of 2\na\n--- 2 of 2\nbB\n");
}

TEST(AnswerWriter, JsonIsOneObjectWithTextsAndUsage) {
  writer_options o;
  o.json = o.logprobs = true;
  const auto out = boost::json::parse(
      written(o, {{0, "Pa", {{5, -0.5F, "\xE2\x82", {{6, -1}}}}, {}}, {0, "ris", {}, {}}}, one_end()));
  const auto& choice = out.at("choices").at(0);
  EXPECT_EQ(choice.at("text").as_string(), "Paris");
  EXPECT_EQ(choice.at("finish_reason").as_string(), "stop");
  EXPECT_EQ(choice.at("tokens").at(0).at("bytes").at(1).to_number<int>(), 0x82)
      << "part of a character comes as bytes too";
  EXPECT_EQ(out.at("usage").at("generated_tokens").to_number<int>(), 3);
}

TEST(AnswerWriter, FirstPromptTokenHasNoLogprobInJson) {
  writer_options o;
  o.json = true;
  const auto out = boost::json::parse(written(o, {{0, "x", {}, {{1, std::nanf(""), "a", {}}}}}, one_end()));
  EXPECT_TRUE(out.at("prompt").at(0).at("logprob").is_null());
}

TEST(AnswerWriter, JsonLinesAreAChunkEachAndOneFinal) {
  writer_options o;
  o.json = o.stream = true;
  const std::string out = written(o, {{0, "Pa", {}, {}}, {0, "ris", {}, {}}}, one_end());
  std::istringstream lines(out);
  std::vector<std::string> types;
  for (std::string line; std::getline(lines, line);)
    types.emplace_back(boost::json::parse(line).at("type").as_string().c_str());
  EXPECT_EQ(types, (std::vector<std::string>{"chunk", "chunk", "final"}));
}

}  // namespace
}  // namespace troupe::cli
