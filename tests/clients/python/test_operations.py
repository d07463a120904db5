"""Models come and go in a real server while streams of others run."""

import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import unittest

from troupe import Client, RequestFailed

MIXTRAL = os.environ["TROUPE_DEMO"]
JAMBA = os.path.join(os.path.dirname(MIXTRAL), "jamba-demo")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
LONG = dict(temperature=0, max_tokens=300, ignore_eos=True)


class Server:
    """`troupe serve` with the demo model, in a folder of its own."""

    def __init__(self, folder, *arguments):
        self.ready = os.path.join(folder, "ready")
        self.log = os.path.join(folder, "log")
        if os.path.exists(self.ready):
            os.remove(self.ready)
        command = [os.environ["TROUPE_COMMAND"], "serve", "--model", f"fox={MIXTRAL}"]
        command += ["--listen", "tcp://127.0.0.1:*", "--ready-file", self.ready, *arguments]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while not (os.path.exists(self.ready) and os.path.getsize(self.ready)):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the server did not start:\n" + open(self.log).read())
            time.sleep(0.05)
        with open(self.ready) as file:
            self.endpoint = file.readline().strip()

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=120)

    def count(self, what):
        """Entries of /proc/<server>/<what>."""
        return len(os.listdir(f"/proc/{self.process.pid}/{what}"))

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def mapped(self):
        with open(f"/proc/{self.process.pid}/maps") as file:
            return file.read()


class OperationsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.state = os.path.join(self.folder.name, "state")
        self.start()

    def start(self):
        self.server = Server(self.folder.name, "--set", f"server.state={self.state}")
        self.addCleanup(self.server.stop, signal.SIGKILL)
        self.client = Client(self.server.endpoint, timeout=120)
        self.addCleanup(self.client.close)

    def names(self):
        return [m.name for m in self.client.models()]

    def refusal(self, call, *arguments, **options):
        with self.assertRaises(RequestFailed) as refused:
            call(*arguments, **options)
        return refused.exception

    def test_loads_a_model_that_answers_and_unloads_it(self):
        done = self.client.load(MIXTRAL, model="owl")
        self.assertEqual(done.operation.state, "done")
        self.assertEqual((done.operation.old_generation, done.operation.new_generation), (0, 1))
        self.assertGreater(done.bytes_loaded, 0)
        self.assertEqual(self.names(), ["fox", "owl"])
        answer = self.client.complete(QUESTION, model="owl", temperature=0).text
        self.assertEqual(answer, "The capital of France is Paris.")
        gone = self.client.unload("owl")
        self.assertEqual((gone.operation.old_generation, gone.operation.new_generation), (1, 0))
        self.assertEqual(gone.bytes_freed, done.bytes_loaded)
        self.assertEqual(self.names(), ["fox"])
        self.assertEqual(self.refusal(self.client.complete, "x", model="owl").name, "unknown_model")
        self.assertEqual([(o.verb, o.state) for o in self.client.history()], [("load", "done"), ("unload", "done")])

    def test_swaps_deploys_and_goes_back(self):
        module = os.path.join(os.path.dirname(os.environ["TROUPE_COMMAND"]), "..", "lib", "troupe", "modules", "mixtral.so")
        expected = self.client.complete("The king", model="fox", **LONG).text
        stream = self.client.generate("The king", model="fox", **LONG)
        next(stream)
        with Client(self.server.endpoint, timeout=120) as operator:
            told = operator.swap("fox", module, dry_run=True)
            self.assertIn("the Program is the same", told.report)
            done = operator.swap("fox", module, move="recompute", verify="exact", probation_ms=100)
            self.assertEqual(done.operation.new_generation, 2)
            self.assertFalse(done.caches_kept)
            deployed = operator.deploy("fox", MIXTRAL, share_percent=50, sticky=True, verify=0.5, probation_ms=100)
            self.assertEqual(deployed.operation.new_generation, 3)
            operator.pin("fox")
            self.assertTrue(operator.models()[0].pinned)
            self.assertEqual(self.refusal(operator.rollback, "fox").name, "conflict")
            operator.pin("fox", False)
            self.assertEqual(self.refusal(operator.promote, "fox").name, "conflict")
            self.assertGreater(operator.sleep("fox").bytes_freed, 0)
            self.assertEqual(operator.models()[0].state, "asleep")
            operator.wake("fox")
            operator.drain("fox", deadline_ms=1000)
            operator.wake("fox")
        self.assertEqual(stream.result().final.usage.generated_tokens, 300)
        self.assertEqual(self.client.complete("The king", model="fox", **LONG).text, expected)
        with self.assertRaises(ValueError):
            self.client.swap("fox", module, move="jump")
        with self.assertRaises(TypeError):
            self.client.swap("fox", module, share_percent=5)

    def test_leaves_running_streams_as_they_are(self):
        expected = self.client.complete("The king", model="fox", **LONG).text
        streams = [self.client.generate("The king", model="fox", **LONG) for _ in range(4)]
        for stream in streams:
            next(stream)
        with Client(self.server.endpoint, timeout=120) as operator:
            operator.load(JAMBA, model="owl")
            self.assertTrue(operator.complete("The king", model="owl", max_tokens=5, temperature=0).text)
            operator.unload("owl")
        for stream in streams:
            result = stream.result()
            self.assertEqual(result.final.usage.generated_tokens, 300)
        self.assertEqual(self.client.complete("The king", model="fox", **LONG).text, expected)

    def test_an_unload_lets_streams_come_to_their_end(self):
        expected = self.client.complete("The king", model="fox", **LONG).text
        text = "".join(c.text for c in self.unload_under_a_stream(deadline_ms=0))
        self.assertEqual(text, expected)
        self.assertEqual((self.done.streams_finished, self.done.streams_ended), (1, 0))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.refusal(self.client.complete, "x").name, "unknown_model")

    def test_an_unload_ends_streams_at_its_deadline(self):
        problem = self.refusal(lambda: list(self.unload_under_a_stream(deadline_ms=200, max_tokens=100_000)))
        self.assertEqual(problem.name, "unavailable")
        self.operator.join(60)
        self.assertEqual((self.done.streams_finished, self.done.streams_ended), (0, 1))

    def unload_under_a_stream(self, deadline_ms, **options):
        stream = self.client.generate("The king", model="fox", **{**LONG, **options})
        first = next(stream)

        def unload():
            with Client(self.server.endpoint, timeout=120) as operator:
                self.done = operator.unload("fox", deadline_ms=deadline_ms)

        self.operator = threading.Thread(target=unload)
        self.operator.start()
        yield first
        yield from stream
        self.operator.join(60)

    def test_tries_an_operation_without_doing_it(self):
        told = self.client.load(JAMBA, model="owl", dry_run=True)
        self.assertEqual(told.operation.state, "done")
        self.assertEqual(told.operation.new_generation, 0)
        self.assertIn("JambaForCausalLM", "\n".join(told.report))
        self.assertIn("module jamba", "\n".join(told.report))
        self.assertEqual(self.names(), ["fox"])

    def test_compares_the_generation_first(self):
        problem = self.refusal(self.client.unload, "fox", expected_generation=7)
        self.assertEqual(problem.name, "conflict")
        self.assertIn("expected generation 7, found generation 1", problem.text)
        self.assertEqual(self.refusal(self.client.load, MIXTRAL, model="fox").name, "conflict")
        self.assertEqual(self.refusal(self.client.load, MIXTRAL, model="owl", expected_generation=3).name, "conflict")
        self.assertEqual(self.names(), ["fox"])
        self.client.unload("fox", expected_generation=1)

    def test_runs_one_operation_at_a_time_on_a_model(self):
        stream = self.client.generate("The king", model="fox", **{**LONG, "max_tokens": 100_000})
        next(stream)
        first = threading.Thread(target=self.unload_elsewhere)
        first.start()
        with Client(self.server.endpoint, timeout=120) as operator:
            while "fox" not in [o.model for o in operator.status().operations]:
                time.sleep(0.02)
            problem = self.refusal(operator.load, MIXTRAL, model="fox")
            self.assertEqual(problem.name, "busy")
            self.assertIn("operation 1 (unload) is under way (retiring)", problem.text)
            self.assertEqual(operator.models()[0].state, "closing")
            queued = threading.Thread(target=self.load_behind)
            queued.start()
            while len(operator.status().operations) < 2:
                time.sleep(0.02)
            stream.cancel()
            queued.join(60)
        first.join(60)
        self.assertEqual(self.queued.operation.new_generation, 2)
        self.assertEqual(self.names(), ["fox"])

    def unload_elsewhere(self):
        with Client(self.server.endpoint, timeout=120) as operator:
            operator.unload("fox")

    def load_behind(self):
        with Client(self.server.endpoint, timeout=120) as operator:
            self.queued = operator.load(MIXTRAL, model="fox", queue=True)

    def test_says_what_is_wrong_and_serves_on(self):
        copy = os.path.join(self.folder.name, "copy")
        shutil.copytree(MIXTRAL, copy)
        shards = [f for f in os.listdir(copy) if f.endswith(".safetensors")]
        os.remove(os.path.join(copy, shards[0]))
        self.assertEqual(self.refusal(self.client.load, copy, model="owl").name, "not_found")
        self.assertEqual(self.refusal(self.client.load, "/nowhere", model="owl").name, "not_found")
        self.assertEqual(self.refusal(self.client.unload, "owl").name, "unknown_model")
        self.assertEqual([o.state for o in self.client.history("owl")], ["refused", "refused"])
        self.assertIn("/nowhere", self.client.history("owl")[1].reason)
        self.assertEqual(self.names(), ["fox"])
        self.client.load(MIXTRAL, model="owl")

    def test_tells_events_as_they_happen(self):
        events = self.client.events("owl", timeout=60)
        self.client.status()  # its answer shows that the question before it has arrived
        with Client(self.server.endpoint, timeout=120) as operator:
            operator.load(MIXTRAL, model="owl")
            operator.unload("owl")
        seen = []
        while seen.count("done") < 2:
            seen.append(next(events).state)
        events.close()
        expected = ["staging", "verifying", "loading", "committing", "switching", "done"]
        expected += ["staging", "committing", "switching", "retiring", "done"]
        self.assertEqual(seen, expected)

    def test_comes_back_to_what_was_committed_after_kill_9(self):
        self.client.load(MIXTRAL, model="owl")
        self.client.unload("fox")
        self.server.stop(signal.SIGKILL)
        self.start()
        self.assertEqual(self.names(), ["owl"])
        self.assertEqual(self.client.models()[0].generation, 1)
        self.client.load(MIXTRAL, model="fox")
        self.assertEqual({m.name: m.generation for m in self.client.models()}, {"owl": 1, "fox": 2})
        self.assertEqual(len(self.client.history()), 3)

    def test_is_as_before_after_many_loads_and_unloads(self):
        stop = threading.Event()
        failures = []

        def keep_streaming():
            with Client(self.server.endpoint, timeout=120) as other:
                expected = other.complete("The king", model="fox", temperature=0, max_tokens=60, ignore_eos=True).text
                while not stop.is_set():
                    got = other.complete("The king", model="fox", temperature=0, max_tokens=60, ignore_eos=True).text
                    if got != expected:
                        failures.append(got)

        streaming = threading.Thread(target=keep_streaming)
        streaming.start()
        measured, resident = [], []
        rounds = int(os.environ.get("TROUPE_ROUNDS", "400"))
        for i in range(rounds):
            self.client.load(JAMBA if i % 2 else MIXTRAL, model="owl")
            if i % 10 == 0:
                self.client.complete("The king", model="owl", max_tokens=3, temperature=0)
            self.client.unload("owl")
            resident.append(self.server.resident_kib())
            if i in (rounds // 4, rounds - 1):
                measured.append((self.server.count("fd"), self.server.count("task")))
        stop.set()
        streaming.join(120)
        self.assertEqual(failures, [])
        # What a stream holds at the moment comes and goes, and the history fills up first (200 operations): medians of the
        # second and of the last quarter.
        early = statistics.median(resident[rounds // 4 : rounds // 2])
        late = statistics.median(resident[-rounds // 4 :])
        print("resident KiB:", early, late, "descriptors, threads:", *measured, flush=True)
        self.assertEqual(measured[0], measured[1])
        self.assertLess(late, early * 1.05)
        self.assertNotIn("jamba", self.server.mapped())


class ClosedDoorTest(unittest.TestCase):
    def test_takes_no_operations_from_beyond_the_machine(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(folder, "--listen", "tcp://0.0.0.0:*")
            self.addCleanup(server.stop, signal.SIGKILL)
            with Client(server.endpoint.replace("0.0.0.0", "127.0.0.1"), timeout=60) as client:
                with self.assertRaises(RequestFailed) as refused:
                    client.unload("fox")
                self.assertEqual(refused.exception.name, "unsupported")
                self.assertEqual(client.history(), [])
            server.stop()


if __name__ == "__main__":
    unittest.main()
