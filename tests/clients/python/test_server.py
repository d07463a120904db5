"""The client against a real server with the demo model."""

import os
import signal
import subprocess
import tempfile
import time
import unittest

from troupe import Client, RequestFailed

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        ready = os.path.join(cls.folder.name, "ready")
        cls.log = open(os.path.join(cls.folder.name, "log"), "w+")
        command = [os.environ["TROUPE_COMMAND"], "serve", "--model", os.environ["TROUPE_DEMO"]]
        command += ["--listen", "tcp://127.0.0.1:*", "--ready-file", ready]
        cls.process = subprocess.Popen(command, stdout=cls.log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if cls.process.poll() is not None or time.monotonic() > end:
                cls.log.seek(0)
                raise RuntimeError("the server did not start:\n" + cls.log.read())
            time.sleep(0.05)
        with open(ready) as file:
            cls.endpoint = file.readline().strip()

    @classmethod
    def tearDownClass(cls):
        cls.process.send_signal(signal.SIGTERM)
        status = cls.process.wait(timeout=60)
        cls.log.close()
        cls.folder.cleanup()
        assert status == 0, f"the server ended with status {status}"

    def setUp(self):
        self.client = Client(self.endpoint, timeout=60)
        self.addCleanup(self.client.close)

    def test_streams_an_answer_piece_by_piece(self):
        chunks = list(self.client.generate(QUESTION, temperature=0))
        self.assertEqual("".join(c.text for c in chunks), "The capital of France is Paris.")
        self.assertGreater(len(chunks), 3)

    def test_ends_with_one_final_and_usage(self):
        answer = self.client.complete(QUESTION, temperature=0)
        end, usage = answer.final.choices[0], answer.final.usage
        self.assertEqual((end.finish, end.stop_token), ("stop", 2))
        self.assertEqual(usage.prompt_tokens, 17)
        self.assertGreater(usage.total_ms, 0)

    def test_cancels_a_stream(self):
        stream = self.client.generate("Once upon a time", temperature=0, max_tokens=5000, ignore_eos=True)
        next(stream)
        stream.cancel()
        end = stream.result().final.choices[0]
        self.assertEqual(end.finish, "cancelled")
        self.assertLess(end.generated_tokens, 5000)

    def test_gives_logprobs_that_are_probabilities(self):
        answer = self.client.complete(QUESTION, temperature=0, logprobs=True, top_logprobs=3, prompt_logprobs=0)
        for token in answer.tokens[0]:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top), 3)
            self.assertEqual(token.top[0].token, token.token)
        self.assertEqual(len(answer.prompt), 17)
        self.assertNotEqual(answer.prompt[0].logprob, answer.prompt[0].logprob)  # not a number: nothing stands before it

    def test_choices_with_one_seed_repeat(self):
        options = dict(n=3, seed=5, temperature=1.0, max_tokens=12)
        first = self.client.complete("The king", **options)
        self.assertEqual(first.texts, self.client.complete("The king", **options).texts)
        self.assertEqual(len(set(first.texts)), 3)

    def test_tokenizes_and_back(self):
        ids = self.client.tokenize("Hello there")
        self.assertEqual(self.client.detokenize(ids, skip_special_tokens=True), "Hello there")

    def test_renders_a_chat(self):
        self.assertEqual(self.client.render(QUESTION), "<s> [INST] What is the capital of France? [/INST]")

    def test_a_dropped_stream_is_cancelled(self):
        for chunk in self.client.generate("Once", temperature=0, max_tokens=20_000, ignore_eos=True):
            break
        end = time.monotonic() + 10
        while self.client.status().open_requests and time.monotonic() < end:
            time.sleep(0.02)
        self.assertEqual(self.client.status().open_requests, 0)

    def test_lists_models_and_status(self):
        (model,) = self.client.models()
        self.assertEqual((model.name, model.architecture, model.state), ("mixtral-demo", "MixtralForCausalLM", "ready"))
        status = self.client.status()
        self.assertEqual(status.cache.blocks, status.cache.free_blocks)

    def test_typed_errors_leave_the_connection_usable(self):
        for prompt, options, name in (
            (QUESTION, dict(model="nope"), "unknown_model"),
            (QUESTION, dict(top_p=2.0), "invalid_request"),
            ([300] * 40_000, {}, "context_exceeded"),
        ):
            with self.assertRaises(RequestFailed) as caught:
                self.client.complete(prompt, **options)
            self.assertEqual(caught.exception.name, name)
        self.assertIn("Paris", self.client.complete(QUESTION, temperature=0).text)


if __name__ == "__main__":
    unittest.main()
