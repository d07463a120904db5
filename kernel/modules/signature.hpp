// Ed25519 signatures of modules. What is signed is the text "troupe module <SHA-256 of the file in lowercase hex>", so that
// other tools can do it, too:
//
//   openssl genpkey -algorithm ed25519 -out key.pem
//   openssl pkey -in key.pem -pubout -out public.pem
//   printf 'troupe module %s' $(sha256sum < mine.so | cut -c1-64) > text
//   openssl pkeyutl -sign -rawin -in text -inkey key.pem | xxd -p -c 64
//
// Signatures of mine.so stand in mine.so.sig, one a line: ed25519 <public key, 64 hex digits> <signature, 128 hex digits>
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::modules {

struct signature {
  std::string key;    // public, 64 hex digits
  std::string bytes;  // 128 hex digits
};

// <library>.sig
std::filesystem::path signature_file(const std::filesystem::path& library);

// `key`: a PEM file with an Ed25519 private key that no passphrase protects. Errors: not_found; bad_config: another key or none.
result<signature> sign(const std::filesystem::path& key, std::string_view sha256);

// `key`: a PEM file with an Ed25519 key, public or private. 64 hex digits. Errors: as above.
result<std::string> read_public_key(const std::filesystem::path& key);

// False for anything but a valid signature.
bool is_valid(const signature& s, std::string_view sha256);

// None if there is no such file. Error: bad_config, with the line.
result<std::vector<signature>> read_signatures(const std::filesystem::path& file);

// Adds `s`, or puts it in the place of the one by the same key. Errors: not_found with the reason; as read_signatures.
result<void> add_signature(const std::filesystem::path& file, const signature& s);

// Lowercase hexadecimal digits of that many bytes.
bool is_hex(std::string_view text, std::size_t bytes);

}  // namespace troupe::modules
