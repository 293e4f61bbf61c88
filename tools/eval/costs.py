"""A machine's costs, as in `potluck run --pace`, and the best that concurrent computing and fetching could achieve with them."""

import tomllib


class Pace:
    """The same arithmetic as app/pace.rs."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.parts = tomllib.load(file)
        self.name, self.estimate = self.parts["name"], self.parts.get("estimate", False)

    @staticmethod
    def between(rows, x):
        if x <= rows[0][0]:
            return rows[0][1]
        for (x0, y0), (x1, y1) in zip(rows, rows[1:]):
            if x <= x1:
                return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return rows[-1][1]

    def job_s(self, first, tokens, rows=0):
        logits = self.parts["logits_us"]
        micros = self.parts.get("job_us", 0) + rows * (
            self.between(logits, rows) if isinstance(logits, list) else logits
        )
        most = int(self.parts["token_us"][-1][0])
        done = 0
        while done < tokens:
            part = min(most, tokens - done)
            depth = first + done + (part - 1) / 2
            micros += part * (
                self.between(self.parts["token_us"], part)
                + self.between(self.parts["depth_us"], depth)
            )
            done += part
        return micros / 1e6

    def miss_s(self, tokens):
        """The time to compute a whole prompt and its first token."""
        return self.job_s(0, tokens, 1)

    def answered_s(self, tokens, generated):
        """The same, plus the rest of the answer, decoded token by token."""
        return self.miss_s(tokens) + sum(
            self.job_s(tokens + at, 1, 1) for at in range(generated - 1)
        )


# Bytes of KV state per token of Gemma 3 270M: int8 with scales, three global layers and fifteen
# with a window of 512.
GLOBAL, SLIDING, WINDOW = 1_632, 8_160, 512
# The published format: f16, and a row of f32 logits.
F16_TOKEN, LOGITS_ROW = 18_432, 262_144 * 4
# TCP's payload in an Ethernet frame of 1,514 bytes.
PAYLOAD = 1_448 / 1_514


def state_bytes(first, end, resume):
    """Bytes of the tokens `first` to `end` that are needed to resume at `resume`."""
    window = max(0, resume - WINDOW + 1)
    return (end - first) * GLOBAL + max(0, end - max(first, window)) * SLIDING


def optimum_s(pace, tokens, matched, bits_per_s):
    """The minimum over m of the longer of computing the first m tokens and fetching the state of the other matched ones; then computing
    the tokens that no node has, in any case the last one of the prompt."""
    resume = min(matched, tokens - 1)
    rest = pace.job_s(resume, tokens - resume, 1)
    rate = bits_per_s / 8 * PAYLOAD
    ends = (
        max(pace.job_s(0, m) if m else 0.0, state_bytes(m, resume, resume) / rate)
        for m in range(resume + 1)
    )
    return min(ends) + rest


def published_bytes(tokens):
    return tokens * F16_TOKEN + LOGITS_ROW
