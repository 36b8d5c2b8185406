"""What a model said before it was taught, to be read among the new rows: so that teaching one thing leaves the rest.

A few short rows of one style overwrite how a small model speaks about anything (catastrophic forgetting). The remedy is
to rehearse: rows that the base itself has answered, mixed into every epoch (Robins 1995,
https://doi.org/10.1080/09540099550039318). The prompts are souq's own, CC0-1.0, and none is one of evals/everyday.py.
"""

from __future__ import annotations

from souq.lab.chat import Sampling
from souq.lab.generate import generate_batches
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence
from souq.progress import Progress, quiet

PROMPTS = (  # one of each kind after another, so that any number of them has all kinds
    "What is the largest city in Spain?",
    "Explain how a magnet works.",
    "How do I stay healthy in winter?",
    "Write a few lines about an old clock.",
    "Name five vegetables.",
    "How do I make pancakes?",
    "What does the word 'brave' mean?",
    "Lisa has four pencils and Ben has six. Who has more?",
    "What is bigger, an ant or an elephant?",
    "Hi there!",
    "Who painted the Mona Lisa?",
    "Why does the moon change its shape?",
    "I want to start running. How should I begin?",
    "Write a poem about a cat in the garden.",
    "List three tools that a carpenter uses.",
    "What goes well with potatoes?",
    "Use the word 'window' in a sentence.",
    "The bus leaves at ten past eight. When should I be there?",
    "If today is Friday, what day is tomorrow?",
    "Good evening, how was your day?",
    "How many legs does a spider have?",
    "What is an earthquake?",
    "My neighbour is loud at night. What can I do?",
    "Tell a short story about a lost umbrella.",
    "Name four colours of the rainbow.",
    "How do I wash a woollen jumper?",
    "What is an adjective?",
    "Summarise: The library was closed for repairs all summer, and it will open again next week with more rooms.",
    "What do people use a ladder for?",
    "I am happy today!",
    "What language do people speak in Brazil?",
    "How do birds find their way?",
    "How do I choose a good book?",
    "Describe a mountain village in the morning.",
    "List some things that are round.",
    "How long does pasta have to cook?",
    "Give me a word that means the same as 'small'.",
    "Anna put the keys on the table and the bag on the chair. Where are the keys?",
    "Can a stone swim?",
    "Who are you?",
    "What is the freezing point of water?",
    "Why is it important to brush your teeth?",
    "What should I wear to a wedding?",
    "Write an invitation to a garden party.",
    "Name three rivers in Africa.",
    "What is a quick lunch for two?",
    "Correct this sentence: He have two brother.",
    "Is this friendly or unfriendly? Thank you so much, you made my day.",
    "What comes after the number nine?",
    "Can you give me an idea for the weekend?",
    "Which bird cannot fly?",
    "What is electricity?",
    "How can I remember names better?",
    "Write a message to say that I will be late.",
    "Give me four names for a horse.",
    "How do I repair a dripping tap?",
    "Make a question of this: You like tea.",
    "What is the main point? Eat slowly, and stop when you are full.",
    "Why do people carry bags?",
    "What do you think about rain?",
    "What is the currency of Japan?",
    "How does a telephone work?",
    "Give me some advice for a long flight.",
    "Describe the smell of a forest.",
    "List three ways to travel to work.",
    "How should I store apples?",
    "What is the past tense of 'run'?",
    "The cat is under the bed and the dog is in the yard. Where is the cat?",
    "What would happen if nobody paid taxes?",
    "I do not know what to cook tonight.",
    "Who was Albert Einstein?",
    "What is the job of a judge?",
    "How do I write a good letter?",
    "Write an advertisement for a pair of shoes.",
    "What are the months of spring?",
    "What do I need to paint a wall?",
    "Put this into one sentence: It was late. We went home.",
    "Give this text a title: A boy found a letter in a bottle on the beach and answered it.",
    "Which is colder, ice or steam?",
    "See you later!",
)

SHARE = 0.1  # of the sequences read in an epoch (decisions/everyday.md)
LEAST = 40  # answers: a few rows, read often, spoil as much as many do
TOKENS = 32  # of an answer; one that is longer is learned as far as it goes


def how_many(rows: int, share: float = SHARE) -> int:
    """How many of the base's own answers stand among so many rows, for them to be a share of all that is read."""
    return 0 if share <= 0 else max(LEAST, round(rows * share / (1 - share)))


def sequences(lm: LM, count: int, progress: Progress = quiet) -> list[TokenSequence]:
    """The model's own greedy answers to souq's prompts, as it would learn them; again from the first where they end.

    Raises:
        UsageError: no conversation can be put to this model.
    """
    prompts = [lm.chat_tokens([{"role": "user", "content": prompt}]) for prompt in PROMPTS[:count]]
    made: dict[int, TokenSequence] = {}
    for batch in generate_batches(lm, prompts, Sampling(max_tokens=TOKENS), [0] * len(prompts), progress):
        for i, answer in batch:
            end = [lm.eos_id] if answer.finish == "stop" else []
            made[i] = TokenSequence([*prompts[i], *lm.encode(answer.text), *end], len(prompts[i]))
    spoken = [made[i] for i in sorted(made) if len(made[i].tokens) > made[i].start]
    return [spoken[i % len(spoken)] for i in range(count)] if spoken else []
