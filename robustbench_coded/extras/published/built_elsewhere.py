"""Published defences that this package has as an inference, a recipe or an architecture: their records
alone. Needs no torch.
"""

from robustbench_coded.extras.published.registry import PaperRecord

RCI = PaperRecord(
    about="Randomised coded inference: a batch is encoded in random order, answered and decoded",
    title="Coded smoothing and randomised coded inference",
    arxiv="2510.00253",
    section="5",
    year=2025,
    random="the order in which a batch is encoded",
    coupling="every coded input is a combination of all inputs of the batch",
    claim="higher accuracy than standard inference under FGSM and PGD (Table 3)",
    setting="N = K and N = 1.5 K, on the checkpoints of this project",
    spec="rci:N=1.5K",
)


MIXUP_INFERENCE = PaperRecord(
    about="Mixup inference: answers are means over mixtures with images of other classes",
    title="Mixup Inference: Better Exploiting Mixup to Defend Adversarial Attacks",
    arxiv="1909.11515",
    section="3",
    year=2020,
    random="the images that are mixed in",
    claim="higher accuracy than the networks have without it on CIFAR-10 under PGD at linf 8/255",
    setting="15 mixtures (paper: 30) with images of other predicted classes (MI-OL), share 0.5",
    breaks=(("2002.08347", "differentiating through the whole randomised inference undoes the gain"),),
    spec="mixup-inference:share=0.5,samples=15",
)


RESIZE_PAD = PaperRecord(
    about="Random resizing and padding: every input at another size and place",
    title="Mitigating Adversarial Effects Through Randomization",
    arxiv="1711.01991",
    section="3",
    year=2018,
    random="the size of every input, and where it lies in the padded image",
    claim="second of 107 teams in the NIPS 2017 defence competition on ImageNet",
    setting="images shrink to 80% or more and are padded to their old size: a network takes one size",
    breaks=(("1802.00420", "0% on ImageNet at linf 8/255, with gradients averaged over draws"),),
    spec="resize-pad:scale=0.8",
)


ADVERSARIAL_TRAINING = PaperRecord(
    about="Adversarial training: on perturbations that PGD finds, the positive control",
    title="Towards Deep Learning Models Resistant to Adversarial Attacks",
    arxiv="1706.06083",
    section="2 and 3",
    year=2018,
    claim="over 89% on MNIST at linf 0.3 and 46% on CIFAR-10 at linf 8/255, under PGD",
    setting="checkpoints of this project trained at linf 0.2 on digits and 8/255 on CIFAR-10",
    recipe="pgd-at",
)


STOCHASTIC_LWTA = PaperRecord(
    about="Stochastic local winner-takes-all: neighbouring channels compete, a winner is drawn",
    title="Stochastic Local Winner-Takes-All Networks Enable Profound Adversarial Robustness",
    arxiv="2112.02671",
    section="3",
    year=2021,
    random="which channel of every pair survives, at every pixel of every layer",
    claim="76.08% on CIFAR-10 at linf 8/255 under AutoAttack rand, by the log of the authors' WRN-34-1",
    setting="the authors' own weights; the gradient of the paper's relaxation at temperature 0.01 vanishes",
    disputes=(
        (
            "fra31/auto-attack#58",
            "AutoAttack's maintainer reports that transferred inputs break the network of their first paper",
            "inputs that leave a copy with deterministic activations 0.3% leave the stochastic network 85.8%",
        ),
    ),
    arch="lwta-",
)


ADV_BNN = PaperRecord(
    about="Adv-BNN: adversarially trained distributions of weights, drawn anew for every answer",
    title="Adv-BNN: Improved Adversarial Defense through Robust Bayesian Neural Network",
    arxiv="1810.01279",
    section="3",
    year=2019,
    random="the weights of every layer",
    claim="14 points more than adversarial training on CIFAR-10 under PGD at linf 0.035, VGG",
    setting="none: no network of this kind comes with this project",
    disputes=(
        (
            "1907.00895",
            "under an attack that accounts for the random weights, no strong evidence of more robustness",
            "the paper reports its gain under PGD; it is older than the comment",
        ),
    ),
    arch="adv-bnn-",
)
