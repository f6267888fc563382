"""What a change of csrobust is judged by: defences of known truth, their outcomes, and the committed runs."""
