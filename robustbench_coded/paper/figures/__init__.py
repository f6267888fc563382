"""The paper's figures, drawn from measurements of our own: Figure 1b, Lemma 1 and Figure 5a."""
