"""Stable-Baselines3's PPO on one signal, through Gymnasium. Needs: pip install "tsc_marl[sb3]".

Usage: python sb3_single_signal.py [network] [decisions of training]
"""

import sys

import tsc_marl

try:
    from stable_baselines3 import PPO
except ImportError:
    sys.exit('stable_baselines3 is not installed; pip install "tsc_marl[sb3]"')

network = sys.argv[1] if len(sys.argv) > 1 else "cross"
decisions = int(sys.argv[2]) if len(sys.argv) > 2 else 12_000

env = tsc_marl.make_single(network)
print(env)
model = PPO("MlpPolicy", env, n_steps=120, batch_size=60, verbose=0, seed=0, device="cpu")
model.learn(decisions)

observation, info = env.reset(seed=1000)
total, ended = 0.0, False
while not ended:
    action, _ = model.predict(observation, deterministic=True)
    observation, reward, terminated, ended, info = env.step(action)
    total += reward
env.close()
print(f"vehicle-seconds lost after training: {-total:.0f}")
