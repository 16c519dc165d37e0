"""A net whose loss or weights stop being finite, by the value of its data, the power in its middle, or the rate."""

DIVERGES = """
layer {{ name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {{
  shape {{ dim: 4 dim: 3 }} shape {{ dim: 4 dim: 2 }} data_filler {{ type: "constant" value: {value} }}
  data_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {{
  num_output: 2 weight_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "middle" type: "Power" bottom: "fc" top: "middle" power_param {{ power: {power} }} }}
layer {{ name: "fc2" type: "InnerProduct" bottom: "middle" top: "fc2" inner_product_param {{
  num_output: 2 weight_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "fc2" bottom: "y" top: "loss" }}
"""
