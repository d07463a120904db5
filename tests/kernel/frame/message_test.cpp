#include "kernel/frame/message.hpp"

#include <gmock/gmock.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "troupe/schemas/client_generated.h"

namespace troupe {
namespace {

using testing::HasSubstr;
using bytes = std::vector<std::uint8_t>;
using error_message = message<wire::Error>;

error_message make(const std::string& text = "why") {
  wire::ErrorT table;
  table.code = error_code::overloaded;
  table.text = text;
  return error_message::pack(table);
}

bytes copy_of(const error_message& m) {
  return {m.bytes().begin(), m.bytes().end()};
}

std::string refusal(const bytes& from) {
  const auto outcome = error_message::adopt_untrusted(from);
  if (outcome) return "no error";
  EXPECT_EQ(outcome.error().code, error_code::invalid_frame);
  return outcome.error().text;
}

TEST(Message, IsEmptyUntilGivenBytes) {
  const error_message m;
  EXPECT_FALSE(m);
  EXPECT_EQ(m.get(), nullptr);
  EXPECT_TRUE(m.bytes().empty());
}

TEST(Message, ReadsWhatWasPacked) {
  const auto m = make();
  ASSERT_TRUE(m);
  EXPECT_EQ(m->code(), error_code::overloaded);
  EXPECT_EQ((*m).text()->str(), "why");
}

TEST(Message, ReadsWhatABuilderHasFinished) {
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString("built");
  const auto m = error_message::finish(builder, wire::CreateError(builder, error_code::cancelled, text));
  EXPECT_EQ(m->text()->str(), "built");
  EXPECT_EQ(builder.GetSize(), 0u) << "the bytes are the message's now";
}

TEST(Message, SharesItsBytesAndKeepsThemAlive) {
  std::optional<error_message> first = make();
  const error_message second = *first;
  EXPECT_EQ(second.bytes().data(), first->bytes().data());
  const auto* table = second.get();
  first.reset();
  EXPECT_EQ(second.get(), table);
  EXPECT_EQ(second->text()->str(), "why");
}

TEST(Message, AdoptsACopyOfBytesFromOutside) {
  auto outside = copy_of(make());
  const auto m = error_message::adopt_untrusted(outside);
  ASSERT_TRUE(m) << m.error().text;
  std::fill(outside.begin(), outside.end(), std::uint8_t{0});
  EXPECT_EQ((*m)->text()->str(), "why");
  EXPECT_EQ(m->bytes().size(), outside.size());
}

TEST(Message, AdoptsBytesAtAnyAddress) {
  const auto good = copy_of(make());
  for (std::size_t shift = 0; shift < 9; ++shift) {
    bytes shifted(shift + good.size());
    std::copy(good.begin(), good.end(), shifted.begin() + static_cast<std::ptrdiff_t>(shift));
    const auto m = error_message::adopt_untrusted(std::span(shifted).subspan(shift));
    ASSERT_TRUE(m) << m.error().text;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(m->bytes().data()) % alignof(std::uint64_t), 0u);
  }
}

TEST(Message, RefusesTooFewAndTooManyBytes) {
  for (std::size_t size = 0; size < 8; ++size)
    EXPECT_EQ(refusal(bytes(size)),
              "troupe.wire.Error: " + std::to_string(size) + " bytes, expected 8 to 67108864");
  EXPECT_THAT(refusal(bytes(max_flatbuffer_bytes + 1)), HasSubstr("67108865 bytes, expected 8 to 67108864"));
}

TEST(Message, RefusesBytesThatAreNoMessage) {
  EXPECT_THAT(refusal(bytes(64, 0xff)), HasSubstr("not a valid troupe.wire.Error message (64 bytes)"));
  flatbuffers::FlatBufferBuilder builder;
  wire::ErrorBuilder table(builder);
  table.add_code(error_code::cancelled);
  builder.Finish(flatbuffers::Offset<wire::Error>(builder.EndTable(table.start_)));
  const bytes without_text(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  EXPECT_THAT(refusal(without_text), HasSubstr("not a valid")) << "the text is required";
}

TEST(Message, RefusesEveryCut) {
  const auto good = copy_of(make());
  // Padding behind the text's end may be cut.
  const auto end = good.size() - good.size() % 4;
  for (std::size_t size = 8; size + 4 < end; ++size)
    EXPECT_NE(refusal(bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))), "no error")
        << size;
}

TEST(Message, OfCorruptBytesIsReadSafelyOrRefused) {
  const auto good = copy_of(make("a text of some length"));
  std::mt19937 random(4);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    auto corrupt = good;
    for (int i = 0; i < 3; ++i) corrupt[random() % corrupt.size()] = static_cast<std::uint8_t>(random());
    const auto m = error_message::adopt_untrusted(corrupt);
    if (!m) {
      ++refused;
      continue;
    }
    EXPECT_LE((*m)->text()->size(), good.size());
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace troupe
