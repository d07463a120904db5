#include "kernel/modules/signature.hpp"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <sstream>

#include "kernel/modules/text_file.hpp"

namespace troupe::modules {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t key_bytes = 32, signature_bytes = 64;

struct release {
  void operator()(BIO* b) const { BIO_free(b); }
  void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); }
  void operator()(EVP_MD_CTX* c) const { EVP_MD_CTX_free(c); }
};
using bio = std::unique_ptr<BIO, release>;
using key_ptr = std::unique_ptr<EVP_PKEY, release>;
using context = std::unique_ptr<EVP_MD_CTX, release>;

std::string signed_text(std::string_view sha256) {
  return "troupe module " + std::string(sha256);
}

std::string to_hex(std::span<const unsigned char> bytes) {
  std::string hex;
  for (const auto byte : bytes) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::optional<std::vector<unsigned char>> from_hex(std::string_view hex, std::size_t bytes) {
  if (!is_hex(hex, bytes)) return std::nullopt;
  const auto digit = [](char c) { return static_cast<unsigned char>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::vector<unsigned char> out;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out.push_back(static_cast<unsigned char>(digit(hex[i]) << 4 | digit(hex[i + 1])));
  return out;
}

// No question is asked: a key with a passphrase is refused.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

result<key_ptr> read_key(const fs::path& file, bool secret) {
  const auto text = read_small_file(file);
  if (!text) return fail(text.error());
  const auto read = [&](auto reader) {
    const bio from(BIO_new_mem_buf(text->data(), static_cast<int>(text->size())));
    return key_ptr(reader(from.get(), nullptr, &no_passphrase, nullptr));
  };
  key_ptr key = read(&PEM_read_bio_PrivateKey);
  if (!key && !secret) key = read(&PEM_read_bio_PUBKEY);
  if (!key || EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_ED25519)
    return fail(error_code::bad_config,
                "{}: expected an Ed25519 {} key in PEM without a passphrase, found {}: make one with "
                "openssl genpkey -algorithm ed25519 -out key.pem",
                file.string(), secret ? "private" : "public or private",
                key ? "another kind of key" : "none");
  return key;
}

result<std::string> public_hex(EVP_PKEY* key) {
  std::array<unsigned char, key_bytes> raw = {};
  std::size_t size = raw.size();
  if (EVP_PKEY_get_raw_public_key(key, raw.data(), &size) != 1 || size != raw.size())
    return fail(error_code::internal, "OpenSSL does not give the public key");
  return to_hex(raw);
}

}  // namespace

bool is_hex(std::string_view text, std::size_t bytes) {
  return text.size() == 2 * bytes &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

fs::path signature_file(const fs::path& library) {
  return library.string() + ".sig";
}

result<std::string> read_public_key(const fs::path& key) {
  const auto read = read_key(key, false);
  if (!read) return fail(read.error());
  return public_hex(read->get());
}

result<signature> sign(const fs::path& key, std::string_view sha256) {
  const auto secret = read_key(key, true);
  if (!secret) return fail(secret.error());
  auto name = public_hex(secret->get());
  if (!name) return fail(name.error());
  const std::string text = signed_text(sha256);
  std::array<unsigned char, signature_bytes> made = {};
  std::size_t size = made.size();
  const context c(EVP_MD_CTX_new());
  if (!c || EVP_DigestSignInit(c.get(), nullptr, nullptr, nullptr, secret->get()) != 1 ||
      EVP_DigestSign(c.get(), made.data(), &size, reinterpret_cast<const unsigned char*>(text.data()),
                     text.size()) != 1)
    return fail(error_code::internal, "OpenSSL does not sign with {}", key.string());
  return signature{std::move(*name), to_hex(made)};
}

bool is_valid(const signature& s, std::string_view sha256) {
  const auto raw = from_hex(s.key, key_bytes), bytes = from_hex(s.bytes, signature_bytes);
  if (!raw || !bytes) return false;
  const key_ptr key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw->data(), raw->size()));
  const context c(EVP_MD_CTX_new());
  const std::string text = signed_text(sha256);
  return key && c && EVP_DigestVerifyInit(c.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(c.get(), bytes->data(), bytes->size(),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
}

result<std::vector<signature>> read_signatures(const fs::path& file) {
  std::vector<signature> all;
  if (std::error_code ignored; !fs::exists(file, ignored)) return all;
  const auto text = read_small_file(file);
  if (!text) return fail(text.error());
  std::istringstream lines(*text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream words(line);
    std::string kind, rest;
    signature s;
    if (!(words >> kind)) continue;
    if (kind != "ed25519" || !(words >> s.key >> s.bytes) || words >> rest || !is_hex(s.key, key_bytes) ||
        !is_hex(s.bytes, signature_bytes))
      return fail(error_code::bad_config,
                  "{}:{}: expected ed25519, a public key of 64 and a signature of 128 lowercase hex digits",
                  file.string(), number);
    all.push_back(std::move(s));
  }
  return all;
}

result<void> add_signature(const fs::path& file, const signature& s) {
  auto all = read_signatures(file);
  if (!all) return fail(std::move(all.error()));
  std::erase_if(*all, [&](const signature& other) { return other.key == s.key; });
  all->push_back(s);
  std::string text;
  for (const auto& one : *all) text += fmt::format("ed25519 {} {}\n", one.key, one.bytes);
  return write_small_file(file, text);
}

}  // namespace troupe::modules
